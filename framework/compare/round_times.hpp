// What the rounds of a policy's run took.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/record/policy_folder.hpp"

namespace dovetail {

/// Of each round the median of its iterations: of each iteration the slowest rank's steps, added
/// up, over the number of steps. NaN where the round has no iteration that all ranks have finished;
/// one round in files that know none. `step_ns` is [ranks][iterations x steps].
std::vector<double> round_times(const RankFile& file,
                                const std::vector<std::vector<std::int64_t>>& step_ns);

/// When the rounds began, which only policies of the same rounds have alike; 0 where not known.
std::int64_t rounds_began_ns(const RankFile& file);

}  // namespace dovetail
