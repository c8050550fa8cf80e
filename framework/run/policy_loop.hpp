// The policies of an experiment on this rank: in rounds, in each of which every policy runs a part
// of its iterations (framework/plan/rounds.hpp).
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

struct PolicyLoopResult {
  bool stopped = false;  ///< a rank was asked to stop: what was not reached is not run
  std::vector<EarlierPolicy> earlier;  ///< what was not run, because it is there already
};

/// Runs the policies in rounds (one round: in the experiment's order), what follows the timed
/// iterations of each behind the last round, and then the references that reference_run.hpp tells
/// of. What the options say was measured earlier is not run, where this run would measure the same
/// (earlier_policy.hpp): its files become files of this run. Collective over the world. Throws
/// AgreedError; failures of a policy end the process as run_policy says.
PolicyLoopResult run_policies(const PolicyLoopSetup& setup);

}  // namespace dovetail
