// Runs one policy of an experiment on this rank: context, warm-up, timed iterations, profiled
// iterations; each step after an agreement of all ranks.
#pragma once

#include <functional>
#include <vector>

#include "framework/record/recorder.hpp"
#include "framework/run/resolve.hpp"
#include "framework/run/run_context.hpp"
#include "framework/step/iteration.hpp"
#include "framework/step/rank_device.hpp"

namespace dovetail {

/// What the run of a policy uses and does not own; everything outlives the call.
struct PolicyRunSetup {
  const RunContext& run;
  const PolicyConfig& policy;
  const ResolvedPolicy& resolved;
  RankDevice& device;
  const Model& model;  ///< of any numerics
  const RankWorkload& workload;
  const GivenInputs& given;
  Iteration& iteration;
  std::vector<StepOutputs>& outputs;  ///< of each step
  /// Called after each warm-up and timed iteration, outside of what is timed; may be empty.
  std::function<void(int finished, int all)> on_iteration;
};

/// Collective over the world. Records steps, profiles, traffic and outputs, and finishes the
/// recorder. Returns whether a rank was asked to stop: the iteration was finished, what was not
/// reached is not run, and a policy that is short of iterations has the status `stopped`. On a
/// failure the recorder's file is marked failed, all ranks are told, and the process ends: threads
/// of the step may be stuck, so nothing is unwound.
bool run_policy(const PolicyRunSetup& setup, RankRecorder& recorder);

}  // namespace dovetail
