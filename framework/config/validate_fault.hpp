// Rules of the faults that an experiment injects into its own runs.
#pragma once

#include <optional>
#include <vector>

#include "framework/config/validate.hpp"

namespace dovetail {

/// Throws InputError, at the place of the value, for a rank, phase or policy that there is not, two
/// faults in one policy, and faults that could never happen. What depends on the model and its
/// schedules is checked later (framework/run/check_fault.hpp).
void check_faults(const LoadedExperiment& loaded,
                  const Capabilities& capabilities,
                  std::optional<int> num_ranks);

/// Throws InputError for a silent fault (is_silent) whose kind is not in `allowed`: whoever starts
/// the run must have asked for it.
void check_allowed_faults(const LoadedExperiment& loaded, const std::vector<FaultKind>& allowed);

}  // namespace dovetail
