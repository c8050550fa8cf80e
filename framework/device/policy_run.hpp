// Runs one policy of an experiment on this rank: warm-up, timed iterations, profiled iterations;
// each step after an agreement of all ranks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>

#include "framework/config/experiment.hpp"
#include "framework/device/model.hpp"
#include "framework/device/rank_context.hpp"
#include "framework/device/step_inputs.hpp"
#include "framework/plan/schedule.hpp"
#include "framework/record/recorder.hpp"

namespace dovetail {

/// Schedules that a policy's steps may use: its own, and the plain one for vetoed steps (the same
/// where the policy is sequential).
struct PolicySchedules {
  Schedule own;
  Schedule plain;

  std::size_t max_ops() const { return std::max(own.ops.size(), plain.ops.size()); }
};

/// Makes and checks both. Throws InputError.
PolicySchedules make_policy_schedules(const PolicyConfig& policy,
                                      const ModelShape& model,
                                      WorkPhase phase);

/// What a policy's run uses and does not own; everything outlives the call.
struct PolicyRunContext {
  const RankContext& rank_context;
  const PolicyConfig& policy;
  const PolicySchedules& schedules;
  const Model& model;
  const StepInputs& inputs;
  StepOutputs& outputs;
  at::Tensor replay_ids;  ///< [layers, tokens, k] int64, or undefined
  /// Called after each warm-up and timed iteration, outside of what is timed; may be empty.
  std::function<void(int finished, int all)> on_iteration;
};

struct PolicyRunResult {
  int finished_iterations = 0;
  bool stopped = false;  ///< a graceful stop was asked for
};

/// Collective over the world. Records steps, profiles, traffic and outputs, and finishes the
/// recorder. On a failure the recorder's file is marked failed, all ranks are told, and the process
/// ends: threads of the step may be stuck, so nothing is unwound.
PolicyRunResult run_policy(const PolicyRunContext& context, RankRecorder& recorder);

}  // namespace dovetail
