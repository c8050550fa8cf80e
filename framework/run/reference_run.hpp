// Natural routing: a policy whose router chose other experts than the baseline's has outputs that
// the baseline's cannot be compared with. The baseline's schedule then runs once more with the
// policy's experts, and the policy is compared with that: no row is left out.
#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/config/experiment.hpp"
#include "framework/run/run_context.hpp"

namespace dovetail {

/// What the policies of a run have chosen, in the order in which they ran; on the host.
struct ChosenExperts {
  std::string policy;
  std::vector<at::Tensor> expert_ids;          ///< of each step, [layers, tokens, k] int64
  std::vector<at::Tensor> context_expert_ids;  ///< of each context step, likewise
};

/// Those policies of `chosen` that chose other experts than the baseline somewhere in the world.
/// Empty unless routing is natural, recorded and verified by tolerance, and the baseline has run.
/// Collective over the world.
std::vector<ChosenExperts> find_other_choices(const RunContext& context,
                                              const std::vector<ChosenExperts>& chosen);

/// The experiment of such a run: the baseline alone, one iteration of each variant, nothing
/// profiled.
Experiment reference_experiment(const Experiment& experiment);

}  // namespace dovetail
