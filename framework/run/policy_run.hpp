// Runs one policy of an experiment on this rank: context, warm-up, timed iterations, profiled
// iterations; each step after an agreement of all ranks.
#pragma once

#include "framework/config/experiment.hpp"
#include "framework/record/recorder.hpp"
#include "framework/step/policy_context.hpp"

namespace dovetail {

struct PolicyRunResult {
  int finished_iterations = 0;
  bool stopped = false;  ///< a graceful stop was asked for
};

/// Collective over the world. Records steps, profiles, traffic and outputs, and finishes the
/// recorder. On a failure the recorder's file is marked failed, all ranks are told, and the process
/// ends: threads of the step may be stuck, so nothing is unwound.
PolicyRunResult run_policy(const PolicyRunContext& context, RankRecorder& recorder);

}  // namespace dovetail
