// Rounds: the timed iterations of all policies are cut into parts, and in each round every policy
// runs one part. What changes while a run goes on (clocks, temperature, other jobs) then comes to
// all policies alike, and shows as the scatter of rounds.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "framework/config/execution_config.hpp"

namespace dovetail {

/// Warm-up iterations of a policy at the begin of each round but the first, where other policies
/// have run in between; none without warm-up.
inline constexpr int kRoundWarmup = 1;

/// Rounds that a run has at most where none are asked for, and where it may end early
/// (`execution.precision`).
inline constexpr int kMostRoundsUnasked = 5;
inline constexpr int kMostRoundsToEnd = 20;

/// How many rounds a run has: `asked`, or where that is 0 one for each 2 iterations of each variant
/// in the policy that has fewest, at most `most_unasked` and at least 1. Five is what an interval
/// needs to be of use (half-width: 1.2 standard deviations; three rounds: 2.5), and each round
/// costs a warm-up iteration; a run of 10 iterations then grows by a third, one of 3 not at all.
/// Pure.
int num_rounds(int asked,
               int variants,
               std::span<const int> iterations,
               int most_unasked = kMostRoundsUnasked);

/// Likewise of a run: `execution` has what is the same in all policies. On GPUs, too, where each
/// round costs an engine with its captures: intervals of one round do not know how rounds differ,
/// and of 50 comparisons of equal policies on an H200 they claimed 8 differences. Pure.
int rounds_of_run(const ExecutionConfig& execution, int variants, std::span<const int> iterations);

/// Of each round the end of its iterations. Each has whole turns of the variants, as equally many
/// as can be; what is left over belongs to the first. Needs at least one turn for each. Pure.
std::vector<int> round_ends(int iterations, int variants, int rounds);

/// The order in which policies run in a round, as indices. One round, or the first, third, ... of
/// several: drawn from the seed; the one behind it runs backwards, so that what grows steadily
/// within rounds favours nobody. That has a price: of two such rounds each policy runs beside
/// itself, and where iterations remember each other, what they say of a policy is alike. On a
/// simulated restless host 5.7 of 100 intervals over 20 rounds of equal policies then claim a
/// difference; with an order drawn for each round 4.2, but 6.2 where the host drifts as well. Equal
/// on all machines. Pure.
std::vector<std::size_t> round_order(std::uint64_t seed, int round, std::size_t num_policies);

}  // namespace dovetail
