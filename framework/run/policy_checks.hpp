// What `run` and `check` alike refuse of an experiment's policies before any work.
#pragma once

#include <string>

#include "framework/config/experiment.hpp"
#include "framework/plan/policy_schedules.hpp"
#include "framework/plan/step_time_table.hpp"
#include "framework/step/model.hpp"

namespace dovetail {

/// The setting that `execution` times its steps under on `world_size` ranks of this build. Throws
/// InputError where the model's config.json cannot be read.
StepTimeSetting build_step_time_setting(const Experiment& experiment,
                                        const ExecutionConfig& execution,
                                        int world_size);

/// The schedules of a policy on `world_size` ranks; a table of step times must be of the setting
/// that they run under. Not collective. Throws InputError.
PolicySchedules make_checked_schedules(const Experiment& experiment,
                                       const PolicyConfig& policy,
                                       const ModelShape& model,
                                       int world_size);

/// Throws InputError for logits of a pipeline stage that is not the last: it has hidden states
/// only.
void check_recorded_outputs(const RecordConfig& record, const ModelDims& dims);

/// The files that a policy's schedules come from: "mine.json or table.json"; where it names none,
/// the model's config.json.
std::string describe_policy_files(const Experiment& experiment, const PolicyConfig& policy);

}  // namespace dovetail
