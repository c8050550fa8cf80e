#include "framework/run/sweep_step_times.hpp"

#include <algorithm>

#include "framework/plan/step_time_setting.hpp"
#include "framework/run/experiment_points.hpp"

namespace dovetail {

std::vector<TimedPolicy> step_times_of(const SweepPointResult& point,
                                       const Experiment& experiment,
                                       int num_ranks) {
  std::vector<TimedPolicy> timed;
  if (point.status != SweepPointStatus::complete) {
    return timed;
  }
  for (const auto& row : point.policies) {
    const auto& policy = find_policy(experiment, row.name);
    if (row.measured_in_point || !row.step_ns || row.vetoed_steps > 0 ||
        policy.schedule == "auto" || row.name == kControlPolicy || !row.resolved) {
      continue;
    }
    timed.push_back(
        {.setting = step_time_setting(experiment, policy.execution, *row.resolved, num_ranks),
         .point = {.policy = row.name,
                   .schedule = row.schedule,
                   .schedule_digest = row.schedule_digest,
                   .ubatches = static_cast<int>(row.ubatches),
                   .split = row.ubatches > 1 ? step_time_split(policy.split) : "",
                   .comm_sms = row.resolved->comm_sms,
                   .tokens = row.max_tokens,
                   .context_tokens = row.context_tokens,
                   .one_token_each = row.one_token_each,
                   .step_ms = row.step_ns->p50 / 1e6,
                   .step_ms_error = row.step_interval
                                        ? (row.step_interval->high - row.step_interval->low) / 2e6
                                        : 0}});
  }
  return timed;
}

nlohmann::json step_time_json(const std::vector<std::vector<TimedPolicy>>& points) {
  StepTimeTable table;
  for (const auto& timed : points) {
    for (const auto& one : timed) {
      if (table.points.empty()) {
        table.setting = one.setting;
      }
      if (one.setting == table.setting) {
        table.points.push_back(one.point);
      }
    }
  }
  return table.points.empty() ? nlohmann::json(nullptr)
                              : nlohmann::json::parse(step_time_table_to_json(table));
}

}  // namespace dovetail
