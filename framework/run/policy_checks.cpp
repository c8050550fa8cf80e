#include "framework/run/policy_checks.hpp"

#include "framework/base/error.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/config/schedule_rules.hpp"
#include "framework/cuda/devices.hpp"
#include "framework/plan/step_time_setting.hpp"
#include "framework/run/capabilities.hpp"

namespace dovetail {
namespace {

/// Of this host's first GPU; its GPUs are taken to be alike.
std::string gpu_name() {
  const auto gpus = gpu_descriptions();
  return gpus.empty() ? "cuda" : gpus.front();
}

}  // namespace

StepTimeSetting build_step_time_setting(const Experiment& experiment,
                                        const ExecutionConfig& execution,
                                        int world_size) {
  const bool on_gpu = plans_for_gpu(execution);
  return step_time_setting(experiment,
                           execution,
                           {.world_size = world_size,
                            .exchange = choose_exchange(execution.exchange, on_gpu).name,
                            .device = on_gpu ? gpu_name() : "cpu"});
}

PolicySchedules make_checked_schedules(const Experiment& experiment,
                                       const PolicyConfig& policy,
                                       const ModelShape& model,
                                       int world_size) {
  const auto setting = build_step_time_setting(experiment, policy.execution, world_size);
  return make_policy_schedules(policy, model, experiment.workload.phase, &setting);
}

void check_recorded_outputs(const RecordConfig& record, const ModelDims& dims) {
  for (const auto output : {RecordedOutput::logits, RecordedOutput::logits_all}) {
    if (!dims.is_last_stage && record.has(output)) {
      throw InputError("record.outputs: " + std::string(to_string(output)) +
                       " of a stage that does not reach the model's last layer; allowed: hidden, "
                       "layers, routing");
    }
  }
}

std::string describe_policy_files(const Experiment& experiment, const PolicyConfig& policy) {
  const bool is_auto = policy.schedule == "auto";
  const auto& schedule = is_auto ? policy.candidate : policy.schedule;
  if (is_schedule_file(schedule)) {
    return schedule + (is_auto ? " or " + policy.table : "");
  }
  return is_auto ? policy.table : experiment.model.config;
}

}  // namespace dovetail
