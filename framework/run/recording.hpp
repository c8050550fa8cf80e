// From a run's objects to what a rank file holds.
#pragma once

#include "framework/base/cpu_share.hpp"
#include "framework/mpi/clock.hpp"
#include "framework/plan/workload.hpp"
#include "framework/record/recorder.hpp"
#include "framework/run/resolve.hpp"
#include "framework/run/run_context.hpp"
#include "framework/run/run_options.hpp"
#include "framework/run/set_up.hpp"
#include "framework/step/iteration.hpp"
#include "framework/step/step_inputs.hpp"

namespace dovetail {

/// What the files of a rank say alike of all policies.
struct RunIdentity {
  const RunOptions& options;
  const RunDigests& digests;
  const ClockOffset& clock;
  const std::string& device;  ///< RankDevice::description
  ComputeThreads threads = {};
  std::string hindrances = "none";  ///< describe_hindrances
};

/// The specification of this rank's file for one policy.
RankFileSpec rank_file_spec(const RunContext& context,
                            const RunIdentity& run,
                            const PolicyConfig& policy,
                            const ResolvedPolicy& resolved,
                            const RankWorkload& workload,
                            const GivenInputs& given,
                            const Model& model);

/// Writes /input.
void record_inputs(RankRecorder& recorder, const RankWorkload& workload, PositionKind positions);

/// Which outputs a step must keep for what the experiment records, replays and verifies.
OutputSelection select_outputs(const Experiment& experiment, const GivenInputs& given);

}  // namespace dovetail
