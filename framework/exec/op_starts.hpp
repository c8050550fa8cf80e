// Starts of ops that the ends of other ops tell.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/exec/op_ends.hpp"
#include "framework/exec/op_times.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// [ops] the ops behind whose latest end each starts (OpPredecessors::of). Without any the start is
/// known by itself.
using OpsBefore = std::vector<std::vector<int>>;

/// Fills start_ns of the ops of `pass` from the end_ns of the ops that they start behind, and
/// end_ns of empty ones. Where start_ns has a time already, the op starts no earlier: the host came
/// to enqueue it only then. `ends` [ops], or empty where no op is.
///
/// What takes the time of an end does so behind it, sometimes late (an event beside the lanes of a
/// graph waits for the device's front end: up to 0.1 ms were seen), never early. So where a time is
/// later than the end of what comes behind it, it is lowered to that: both were bounds, and this is
/// the closer one. Returns the most that a time was lowered by, in ns: others may be as late
/// without its being seen.
std::int64_t fill_starts(const Schedule& schedule,
                         PassKind pass,
                         const OpsBefore& starts_behind,
                         const std::vector<EndSource>& ends,
                         OpTimes& times);

}  // namespace dovetail
