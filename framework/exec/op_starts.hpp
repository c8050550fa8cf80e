// Starts of ops that the ends of other ops tell.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "framework/exec/op_times.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// [ops] the ops whose later end is the start of each; -1 = none. Without any the start is known by
/// itself.
using OpsBefore = std::vector<std::array<int, 2>>;

/// Fills start_ns of the ops of `pass` from the end_ns of the ops that they start behind. Where two
/// ends are of different clocks an op may seem to end before that: it counts as one that takes no
/// time then. Returns the most that an end and a start contradict each other by, in ns; 0 = none
/// does.
std::int64_t fill_starts(const Schedule& schedule,
                         PassKind pass,
                         const OpsBefore& starts_behind,
                         OpTimes& times);

}  // namespace dovetail
