// Which ops of a pass come before which, found the slow way; for tests of what is read off edges.
#pragma once

#include <vector>

#include "framework/base/types.hpp"
#include "framework/exec/lane_edges.hpp"
#include "framework/plan/schedule.hpp"
#include "tests/unit/plan/op_set.hpp"

namespace dovetail::testing {

using Orders = OpSets;  ///< which ops come before each

/// All orders that lane order and the given waits imply, among the ops of `pass`.
Orders orders_of(const Schedule& schedule,
                 PassKind pass,
                 const std::vector<std::vector<int>>& waits);

/// The waits that are left of a schedule: one entry an op.
std::vector<std::vector<int>> waits_of(const LaneEdges& edges);

/// Those of all policies over mixes of layers, and some hundred random ones.
std::vector<Schedule> many_schedules();

inline constexpr PassKind kPasses[] = {PassKind::full, PassKind::compute_only, PassKind::comm_only};

/// [ops] OpPredecessors::followed_by where no op is empty; -1 = none, or not of the pass.
std::vector<int> find_followed(const Schedule& schedule, PassKind pass, const LaneEdges& edges);

}  // namespace dovetail::testing
