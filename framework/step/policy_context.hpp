// What the run of a policy on one rank refers to.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "framework/comm/exchange/exchange.hpp"
#include "framework/config/experiment.hpp"
#include "framework/mpi/wait.hpp"
#include "framework/plan/policy_schedules.hpp"
#include "framework/step/iteration.hpp"
#include "framework/step/model.hpp"
#include "framework/step/rank_context.hpp"
#include "framework/step/rank_device.hpp"
#include "framework/step/step_inputs.hpp"

namespace dovetail {

/// What a policy's run uses and does not own; everything outlives the call.
struct PolicyRunContext {
  const RankContext& rank_context;
  RankDevice& device;
  const PolicyConfig& policy;
  const PolicySchedules& schedules;
  const Model& model;
  const RankWorkload& workload;
  const GivenInputs& given;
  Iteration& iteration;
  std::vector<StepOutputs>& outputs;  ///< of each step
  /// Called after each warm-up and timed iteration, outside of what is timed; may be empty.
  std::function<void(int finished, int all)> on_iteration;
};

/// The ranks' waits, bounded by the policy's own timeout_s.
WaitPolicy policy_wait(const PolicyRunContext& context);

/// The ep group and the model's layers.
ExchangeShape exchange_shape(const PolicyRunContext& context, int num_ubatches);

/// The entry of a step, or an undefined tensor where nothing is given.
at::Tensor given_at(const std::vector<at::Tensor>& given, std::size_t step);

}  // namespace dovetail
