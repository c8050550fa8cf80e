// What the run of a policy on one rank refers to.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "framework/comm/exchange/exchange.hpp"
#include "framework/config/experiment.hpp"
#include "framework/device/iteration.hpp"
#include "framework/device/model.hpp"
#include "framework/device/rank_context.hpp"
#include "framework/device/rank_device.hpp"
#include "framework/device/step_inputs.hpp"
#include "framework/mpi/wait.hpp"
#include "framework/plan/schedule.hpp"
#include "framework/plan/step_time_table.hpp"

namespace dovetail {

/// Schedules that a policy's steps may use: its own (auto: its candidate's), and the plain one for
/// vetoed steps (the same where the policy is sequential).
struct PolicySchedules {
  Schedule own;
  Schedule plain;
  std::optional<StepTimeCurves> step_times;  ///< auto only: what it decides by

  std::size_t max_ops() const { return std::max(own.ops.size(), plain.ops.size()); }

  /// A number that is equal for equal schedules and step times, for the agreement: each rank reads
  /// the files for itself.
  std::uint64_t digest() const;
};

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
