// Proves a schedule before it runs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/plan/schedule.hpp"

namespace dovetail {

/// Everything that is wrong with a schedule, a sentence each that names the op ("op 17 (experts,
/// layer 2, ubatch 1) ..."). No sentence: the schedule is proven. Takes any list of ops, also a
/// hostile one; time and memory grow with its size only. Orders are checked once the list itself is
/// sound. What is checked:
/// - every op of the model is there once, and no other; where experts are cut, dispatch, experts
/// and
///   combine once for each group;
/// - waits point backwards, so there is no cycle;
/// - each data dependency is met by waits or by the order of a lane: embed -> attention -> route ->
///   dispatch -> experts -> combine -> next attention or output; shared_experts between route and
///   that next op; mlp after attention; the groups of a phase in ascending order;
/// - on the compute lane attention(l, u) comes before attention(l, u+1);
/// - only dispatch and combine are on the comm lane, and a ubatch's buffers of the exchange are not
///   reused in flight (the next layer's dispatch comes after finish);
/// - all dispatches and combines have one order, whatever lane they are on. All ranks then have the
///   same order, because they agree on the schedule's digest.
///
/// All of it also holds in the passes compute_only and comm_only, because executors keep the
/// schedule's orders among the ops that a pass runs (framework/exec/lane_edges.hpp).
std::vector<std::string> schedule_errors(const Schedule& schedule);

/// Throws InputError with the first sentences of schedule_errors, if there are any.
void check_schedule(const Schedule& schedule);

/// A number that is equal exactly for equal schedules (FNV-1a over all fields); ranks compare it.
std::uint64_t schedule_digest(const Schedule& schedule);

}  // namespace dovetail
