// Proves a schedule before it runs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/plan/schedule.hpp"

namespace dovetail {

/// Everything wrong with a schedule, a sentence each, naming the op ("op 17 (experts, layer 2,
/// ubatch 1) ..."); empty = proven. Takes any op list, also a hostile one; time and memory grow
/// with its size only. Orders are looked at once the list itself is sound. Checked: every op of the
/// model is there once and no other; waits point backwards (acyclic); each data dependency is met
/// by waits or lane order (embed -> attention -> route -> dispatch -> experts -> combine -> next
/// attention or output, shared_experts between route and that next op, mlp after attention);
/// attention(l, u) before attention(l, u+1) on the compute lane; only dispatch and combine on the
/// comm lane, each ubatch's exchange buffers not reused while in flight (dispatch of the next layer
/// after finish), all dispatches and combines in one order whatever lane they are on. That ranks
/// have the same order then follows from the schedule being the same on all ranks (agreed by
/// digest). All of it holds in the passes compute_only and comm_only as well, because executors
/// keep the schedule's orders among the ops that a pass runs (framework/exec/lane_edges.hpp).
std::vector<std::string> schedule_errors(const Schedule& schedule);

/// Throws InputError with the first sentences of schedule_errors, if there are any.
void check_schedule(const Schedule& schedule);

/// A number that is equal exactly for equal schedules (FNV-1a over all fields); ranks compare it.
std::uint64_t schedule_digest(const Schedule& schedule);

}  // namespace dovetail
