#include "framework/device/policy_run.hpp"
#include "framework/plan/policy.hpp"
#include "framework/plan/schedule_check.hpp"

namespace dovetail {

PolicySchedules make_policy_schedules(const PolicyConfig& policy,
                                      const ModelShape& model,
                                      WorkPhase phase) {
  const auto make = [&](const std::string& name, int ubatches) {
    const auto& entry = policies().at(name);
    const auto num_ubatches = ubatches > 0 ? ubatches : entry.default_ubatches;
    auto schedule =
        entry.make_schedule({.model = model, .phase = phase, .num_ubatches = num_ubatches});
    check_schedule(schedule);
    return schedule;
  };
  return {.own = make(policy.schedule, policy.ubatches), .plain = make("sequential", 1)};
}

}  // namespace dovetail
