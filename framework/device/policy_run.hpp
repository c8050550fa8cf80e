// Runs one policy of an experiment on this rank: context, warm-up, timed iterations, profiled
// iterations; each step after an agreement of all ranks.
#pragma once

#include "framework/config/experiment.hpp"
#include "framework/device/policy_context.hpp"
#include "framework/plan/schedule.hpp"
#include "framework/plan/split.hpp"
#include "framework/record/recorder.hpp"

namespace dovetail {

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

struct PolicyRunResult {
  int finished_iterations = 0;
  bool stopped = false;  ///< a graceful stop was asked for
};

/// Collective over the world. Records steps, profiles, traffic and outputs, and finishes the
/// recorder. On a failure the recorder's file is marked failed, all ranks are told, and the process
/// ends: threads of the step may be stuck, so nothing is unwound.
PolicyRunResult run_policy(const PolicyRunContext& context, RankRecorder& recorder);

}  // namespace dovetail
