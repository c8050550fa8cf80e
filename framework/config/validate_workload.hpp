// Rules between values of the workload and the model's layers; a part of validate.hpp.
#pragma once

#include <optional>

#include "framework/config/load.hpp"

namespace dovetail {

/// Throws InputError, at the place of the value, for the first broken rule of the workload: the
/// phase, inputs, contexts, the stage and, where num_ranks is known, rank_scale. What only a trace
/// tells is checked by plan_requests (framework/plan/planned_requests.hpp).
void check_workload(const LoadedExperiment& loaded, std::optional<int> num_ranks);

}  // namespace dovetail
