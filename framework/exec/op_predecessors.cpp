#include "framework/exec/op_predecessors.hpp"

#include <algorithm>
#include <initializer_list>

namespace dovetail {
namespace {

std::vector<Op> ops_of(const Schedule& schedule, const LaneEdges& edges) {
  auto ops = schedule.ops;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    ops[i].waits.clear();
    if (edges.wait_for[i] >= 0) {
      ops[i].waits.push_back(edges.wait_for[i]);
    }
  }
  return ops;
}

}  // namespace

OpPredecessors::OpPredecessors(const Schedule& schedule, PassKind pass, const LaneEdges& edges)
    : pass_(pass),
      edges_(edges),
      ops_(ops_of(schedule, edges)),
      comes_before_(ops_),
      is_empty_(ops_.size(), 0),
      stand_in_(ops_.size()) {}

std::vector<int> OpPredecessors::of(std::size_t op) const {
  std::vector<int> all;
  for (const int other : {edges_.before[op], edges_.wait_for[op]}) {
    if (other < 0) {
      continue;
    }
    const auto index = static_cast<std::size_t>(other);
    if (is_empty(index)) {
      all.insert(all.end(), stand_in_[index].begin(), stand_in_[index].end());
    } else {
      all.push_back(other);
    }
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  std::vector<int> last;
  for (const int one : all) {
    if (std::none_of(
            all.begin(), all.end(), [&](int other) { return comes_before_(one, other); })) {
      last.push_back(one);
    }
  }
  return last;
}

bool OpPredecessors::has_empty(std::size_t op) const {
  const auto is_one = [this](int other) {
    return other >= 0 && is_empty(static_cast<std::size_t>(other));
  };
  return is_one(edges_.before[op]) || is_one(edges_.wait_for[op]);
}

void OpPredecessors::set_empty(std::size_t op) {
  stand_in_[op] = of(op);
  is_empty_[op] = stand_in_[op].empty() ? 0 : 1;
}

int OpPredecessors::followed_by(std::size_t op) const {
  const auto last = of(op);
  if (last.size() != 1 || (ops_[op].lane == Lane::comm && has_compute_beside(op))) {
    return -1;
  }
  return last.front();
}

/// Whether a compute op comes neither before nor behind this one.
bool OpPredecessors::has_compute_beside(std::size_t op) const {
  const int own = static_cast<int>(op);
  for (std::size_t i = 0; i < ops_.size(); ++i) {
    const int other = static_cast<int>(i);
    if (ops_[i].lane == Lane::compute && runs_in(pass_, ops_[i].phase) &&
        !comes_before_(other, own) && !comes_before_(own, other)) {
      return true;
    }
  }
  return false;
}

}  // namespace dovetail
