// Activations and routing that an experiment gives instead of letting the model compute them:
// seeded embeddings, the hidden states of another stage, synthetic or recorded routing.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/plan/workload.hpp"
#include "framework/run/run_context.hpp"
#include "framework/step/iteration.hpp"

namespace dovetail {

/// For `workload.inputs` and `workload.routing`. Recorded rows are matched by request and position.
/// Collective over the world. Throws AgreedError where a folder does not hold what is asked for.
GivenInputs make_given_inputs(const RunContext& context,
                              const RankWorkload& workload,
                              const Model& model);

/// Activations of a step's tokens, [tokens, hidden] in the model's dtype on the host: uniform in
/// (-1, 1), by request and position, so that any grid and any cut into steps gives the same. Local.
at::Tensor seeded_embeds(const StepWorkload& step, const ModelDims& dims, std::uint64_t seed);

/// The expert ids of steps that have run, for policies that take their routing.
template <class Steps>
std::vector<at::Tensor> routing_of(const Steps& steps) {
  std::vector<at::Tensor> routing;
  routing.reserve(steps.size());
  for (const StepOutputs& step : steps) {
    routing.push_back(step.expert_ids.to(at::kCPU, at::kLong));
  }
  return routing;
}

}  // namespace dovetail
