// The policies of an experiment, one after another, on this rank.
#pragma once

#include <filesystem>
#include <vector>

#include "framework/plan/workload.hpp"
#include "framework/run/recording.hpp"
#include "framework/run/resolve.hpp"
#include "framework/run/run_context.hpp"
#include "framework/step/iteration.hpp"
#include "framework/step/model.hpp"
#include "framework/step/rank_device.hpp"

namespace dovetail {

/// What the policies of a run share; everything outlives the call.
struct PolicyLoopSetup {
  const RunContext& run;
  RunIdentity identity;
  const std::vector<ResolvedPolicy>& policies;  ///< in the experiment's order
  RankDevice& device;
  const Model& model;
  const RankWorkload& workload;
  const GivenInputs& given;
  const std::filesystem::path& folder;  ///< of the run: a policy's files go into one of its name
};

/// Runs the policies in the experiment's order, and behind them the references that
/// reference_run.hpp tells of. Collective over the world. Returns whether a rank was asked to stop:
/// what was not reached is not run. Failures end the process as run_policy says.
bool run_policies(const PolicyLoopSetup& setup);

}  // namespace dovetail
