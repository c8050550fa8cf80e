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
/// to enqueue it only then. `given` [ops]; what starts behind an empty op starts behind what that
/// one does. `ends` [ops], or empty where no op is.
///
/// What takes the time of an end does so behind it, sometimes late (an event beside the lanes of a
/// graph waits for the device's front end: up to 0.1 ms were seen), never early. So where a time is
/// later than the end of what comes behind it, it is lowered to that: both were bounds, and this is
/// the closer one. Returns the most that a time was lowered by, in ns: others may be as late
/// without its being seen.
std::int64_t fill_starts(const Schedule& schedule,
                         PassKind pass,
                         const OpsBefore& given,
                         const std::vector<EndSource>& ends,
                         OpTimes& times);

/// Behind that, for ops that started when the host came to them (their start_ns is that of
/// `begun_ns` [ops]): start_ns becomes the time that the op's own first kernel has written, by the
/// clock of its end; between the clocks of host and device lie some us. `own_start_ns` [ops], -1 =
/// the op has written none. Still no earlier than what the op starts behind, nor later than its
/// end.
void use_own_starts(const std::vector<std::int64_t>& begun_ns,
                    const std::vector<std::int64_t>& own_start_ns,
                    const OpsBefore& starts_behind,
                    OpTimes& times);

}  // namespace dovetail
