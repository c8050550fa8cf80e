// From a run's objects to what a rank file holds.
#pragma once

#include <filesystem>

#include "framework/mpi/clock.hpp"
#include "framework/plan/workload.hpp"
#include "framework/record/recorder.hpp"
#include "framework/run/policy_run.hpp"
#include "framework/run/run_options.hpp"
#include "framework/run/run_setup.hpp"
#include "framework/step/rank_context.hpp"

namespace dovetail {

/// What the files of a rank say alike of all policies.
struct RunIdentity {
  const RunOptions& options;
  const RunDigests& digests;
  const ClockOffset& clock;
  const std::string& device;  ///< RankDevice::description
};

/// The specification of this rank's file for one policy.
RankFileSpec rank_file_spec(const RankContext& context,
                            const RunIdentity& run,
                            const PolicyConfig& policy,
                            const PolicySchedules& schedules,
                            const RankWorkload& workload,
                            const Model& model);

/// Writes /input.
void record_inputs(RankRecorder& recorder, const RankWorkload& workload, PositionKind positions);

/// Which outputs a step must keep for what the experiment records and replays.
OutputSelection select_outputs(const Experiment& experiment);

/// Whether the other policies take the baseline's experts.
bool replays_baseline(const Experiment& experiment);

}  // namespace dovetail
