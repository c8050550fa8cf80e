// From a run's objects to what a rank file holds.
#pragma once

#include <filesystem>

#include "framework/device/policy_run.hpp"
#include "framework/device/rank_context.hpp"
#include "framework/mpi/clock.hpp"
#include "framework/plan/workload.hpp"
#include "framework/record/recorder.hpp"
#include "launch/commands.hpp"
#include "launch/run_setup.hpp"

namespace dovetail {

/// The specification of this rank's file for one policy.
RankFileSpec rank_file_spec(const RankContext& context,
                            const PolicyConfig& policy,
                            const PolicySchedules& schedules,
                            const RunOptions& options,
                            const RunDigests& digests,
                            const ClockOffset& clock,
                            const RankWorkload& workload,
                            const Model& model);

/// Writes /input.
void record_inputs(RankRecorder& recorder, const RankWorkload& workload, PositionKind positions);

/// Which outputs a step must keep for what the experiment records and replays.
OutputSelection select_outputs(const Experiment& experiment);

/// Whether the other policies take the baseline's experts.
bool replays_baseline(const Experiment& experiment);

}  // namespace dovetail
