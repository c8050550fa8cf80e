// What the rounds of a policy's run took.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "framework/record/policy_folder.hpp"

namespace dovetail {

/// Of each iteration its round; 0 in files that know none.
std::vector<std::int64_t> rounds_of_iterations(const RankFile& file, std::size_t iterations);

/// Of each round the median of its iterations. `means`: what each iteration took (mean_steps). NaN
/// where the round has no iteration that all ranks have finished; one round in files that know
/// none.
std::vector<double> round_times(const RankFile& file, const std::vector<double>& means);

/// When the rounds began, which only policies of the same rounds have alike; 0 where not known.
std::int64_t rounds_began_ns(const RankFile& file);

}  // namespace dovetail
