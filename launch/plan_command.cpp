// `dovetail plan`: the schedule of a policy, as it would be recorded and run.
#include <iostream>

#include "framework/plan/policy_schedules.hpp"
#include "framework/plan/schedule_json.hpp"
#include "framework/plan/schedule_print.hpp"
#include "framework/plan/schedule_sms.hpp"
#include "framework/run/capabilities.hpp"
#include "framework/run/experiment_points.hpp"
#include "launch/commands.hpp"
#include "models/registry.hpp"

namespace dovetail {

int plan_command(const PlanOptions& options) {
  const auto experiment = load_valid_experiment(
      options.file, options.overrides, planning_capabilities(architectures().names()));
  const auto& policy = find_policy(experiment, options.policy);
  const auto architecture = architectures().at(experiment.model.architecture)(experiment.model);
  const auto schedules =
      make_policy_schedules(policy, architecture->shape(), experiment.workload.phase);
  const auto sms = [&](const Schedule& schedule) {
    return describe_comm_sms(schedule_sms(policy.execution.comm_sms, schedule));
  };
  switch (options.format) {
    case OutputFormat::json:
      std::cout << schedule_to_json(schedules.own);
      break;
    case OutputFormat::dot:
      std::cout << schedule_to_dot(schedules.own);
      break;
    default:
      std::cout << schedule_to_table(schedules.own) << "on a GPU: comm SMs " << sms(schedules.own)
                << ", in plain steps " << sms(schedules.plain) << "\n";
  }
  return kExitDone;
}

}  // namespace dovetail
