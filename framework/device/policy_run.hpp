// Runs one policy of an experiment on this rank: context, warm-up, timed iterations, profiled
// iterations; each step after an agreement of all ranks.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "framework/config/experiment.hpp"
#include "framework/device/iteration.hpp"
#include "framework/device/model.hpp"
#include "framework/device/rank_context.hpp"
#include "framework/device/step_inputs.hpp"
#include "framework/plan/schedule.hpp"
#include "framework/plan/split.hpp"
#include "framework/plan/step_time_table.hpp"
#include "framework/record/recorder.hpp"

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

/// Makes and proves both; reads the policy's schedule file and its table of step times, if any.
/// `setting` is this run's (step_time_setting.hpp), which the table must have; null = not compared,
/// where nothing will run. Not collective. Throws InputError "policy <name>: ...", which names the
/// file for what a file is to blame for.
PolicySchedules make_policy_schedules(const PolicyConfig& policy,
                                      const ModelShape& model,
                                      WorkPhase phase,
                                      const StepTimeSetting* setting = nullptr);

/// How the policy cuts a batch; `balanced` weighs attention by the model's own operation counts.
SplitRule split_rule(const SplitConfig& split, const ModelDims& dims);

/// What a policy's run uses and does not own; everything outlives the call.
struct PolicyRunContext {
  const RankContext& rank_context;
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

struct PolicyRunResult {
  int finished_iterations = 0;
  bool stopped = false;  ///< a graceful stop was asked for
};

/// Collective over the world. Records steps, profiles, traffic and outputs, and finishes the
/// recorder. On a failure the recorder's file is marked failed, all ranks are told, and the process
/// ends: threads of the step may be stuck, so nothing is unwound.
PolicyRunResult run_policy(const PolicyRunContext& context, RankRecorder& recorder);

}  // namespace dovetail
