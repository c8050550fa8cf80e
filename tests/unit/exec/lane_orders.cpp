#include "tests/unit/exec/lane_orders.hpp"

#include <random>
#include <utility>

#include "framework/base/check.hpp"
#include "framework/exec/op_predecessors.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail::testing {

Orders orders_of(const Schedule& schedule,
                 PassKind pass,
                 const std::vector<std::vector<int>>& waits) {
  DOVETAIL_CHECK(schedule.ops.size() <= kMostOps, "more ops than a set holds");
  Orders before(schedule.ops.size());
  std::vector<int> last = {-1, -1};
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    if (!runs_in(pass, schedule.ops[i].phase)) {
      continue;
    }
    const auto add = [&](int waited_for) {
      const auto op = static_cast<std::size_t>(waited_for);
      before[i].set(op);
      before[i] |= before[op];
    };
    int& lane_last = last[static_cast<std::size_t>(schedule.ops[i].lane)];
    if (lane_last >= 0) {
      add(lane_last);
    }
    lane_last = static_cast<int>(i);
    for (const int wait : waits[i]) {
      add(wait);
    }
  }
  return before;
}

std::vector<std::vector<int>> waits_of(const LaneEdges& edges) {
  std::vector<std::vector<int>> waits(edges.wait_for.size());
  for (std::size_t i = 0; i < waits.size(); ++i) {
    if (edges.wait_for[i] >= 0) {
      waits[i] = {edges.wait_for[i]};
    }
  }
  return waits;
}

std::vector<Schedule> many_schedules() {
  std::mt19937_64 random(fresh_seed());
  std::vector<Schedule> all;
  for (const auto& layers : layer_mixes()) {
    for (auto& schedule : all_policy_schedules(layers)) {
      all.push_back(std::move(schedule));
    }
  }
  for (int i = 0; i < 200; ++i) {
    all.push_back(random_schedule(random));
    all.push_back(random_lean_schedule(random));
  }
  return all;
}

std::vector<int> find_followed(const Schedule& schedule, PassKind pass, const LaneEdges& edges) {
  const OpPredecessors predecessors(schedule, pass, edges);
  std::vector<int> followed(schedule.ops.size(), -1);
  for (std::size_t i = 0; i < followed.size(); ++i) {
    if (runs_in(pass, schedule.ops[i].phase)) {
      followed[i] = predecessors.followed_by(i);
    }
  }
  return followed;
}

}  // namespace dovetail::testing
