// The conditions that a run times its steps under, as a table of step times states them.
#pragma once

#include <string>

#include "framework/config/experiment.hpp"
#include "framework/config/resolved_execution.hpp"
#include "framework/plan/step_time_table.hpp"

namespace dovetail {

/// The setting of the steps that `execution` runs (the experiment's, or a policy's): model (file
/// name and digest of the bytes of its config.json), layers, dtype, world_size, expert_parallel,
/// exchange, device, link, hand_off, numerics, graph, phase, routing; on a GPU also
/// padded_capacity, graph_sizes unless they are `auto`, and sm_partition where it is hard. Whoever
/// times steps for a table and whoever uses a table call this, with the execution as the run has
/// resolved it. Throws InputError where config.json cannot be read.
StepTimeSetting step_time_setting(const Experiment& experiment,
                                  const ExecutionConfig& execution,
                                  const ResolvedExecution& resolved,
                                  int world_size);

/// A split as a table of step times states it: its kind, or "sizes: 3, 5".
std::string step_time_split(const SplitConfig& split);

}  // namespace dovetail
