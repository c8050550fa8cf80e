#include "framework/exec/op_followers.hpp"

#include <algorithm>

#include "framework/plan/happens_before.hpp"

namespace dovetail {
namespace {

/// The ops with the waits that the graph has.
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

class Followers {
 public:
  Followers(const Schedule& schedule, PassKind pass, const LaneEdges& edges)
      : pass_(pass), edges_(edges), ops_(ops_of(schedule, edges)), comes_before_(ops_) {}

  int followed_by(std::size_t op) const {
    const int last = last_before(edges_.before[op], edges_.wait_for[op]);
    const bool on_comm = ops_[op].lane == Lane::comm;
    return last >= 0 && on_comm && has_compute_beside(static_cast<int>(op)) ? -1 : last;
  }

 private:
  /// The one of two ops, either of which may be missing, that the other comes before; -1 = none.
  int last_before(int a, int b) const {
    if (a < 0 || b < 0) {
      return std::max(a, b);
    }
    if (comes_before_(a, b)) {
      return b;
    }
    return comes_before_(b, a) ? a : -1;
  }

  /// Whether a compute op comes neither before nor behind this op of the comm lane.
  bool has_compute_beside(int op) const {
    for (std::size_t i = 0; i < ops_.size(); ++i) {
      const int other = static_cast<int>(i);
      if (ops_[i].lane == Lane::compute && runs_in(pass_, ops_[i].phase) &&
          !comes_before_(other, op) && !comes_before_(op, other)) {
        return true;
      }
    }
    return false;
  }

  PassKind pass_;
  const LaneEdges& edges_;
  std::vector<Op> ops_;
  HappensBefore comes_before_;
};

}  // namespace

std::vector<int> find_followed(const Schedule& schedule, PassKind pass, const LaneEdges& edges) {
  const Followers followers(schedule, pass, edges);
  std::vector<int> followed(schedule.ops.size(), -1);
  for (std::size_t i = 0; i < followed.size(); ++i) {
    if (runs_in(pass, schedule.ops[i].phase)) {
      followed[i] = followers.followed_by(i);
    }
  }
  return followed;
}

std::vector<EndSource> find_ends(const Schedule& schedule,
                                 PassKind pass,
                                 const std::vector<int>& followed,
                                 const std::vector<OpHead>& heads) {
  std::vector<EndSource> ends(schedule.ops.size());
  for (std::size_t i = 0; i < ends.size(); ++i) {
    if (runs_in(pass, schedule.ops[i].phase)) {
      ends[i].op = static_cast<int>(i);
    }
  }
  // From the last one on: an empty op ends where the op that it follows ends.
  for (std::size_t i = ends.size(); i-- > 0;) {
    if (followed[i] < 0 || heads[i] == OpHead::other) {
      continue;
    }
    ends[static_cast<std::size_t>(followed[i])] =
        heads[i] == OpHead::empty ? ends[i]
                                  : EndSource{.op = static_cast<int>(i), .is_start_of_other = true};
  }
  return ends;
}

}  // namespace dovetail
