// What a sweep has measured, as the table of step times that the policy `auto` decides by.
#pragma once

#include <vector>

#include <nlohmann/json.hpp>

#include "framework/compare/sweep_result.hpp"
#include "framework/config/experiment.hpp"
#include "framework/plan/step_time_table.hpp"

namespace dovetail {

/// A step time and the conditions that it was measured under.
struct TimedPolicy {
  StepTimeSetting setting;
  StepTimePoint point;
};

/// The step times of a point that is complete; empty for any other, each under the setting that the
/// point's rank files record. Left out are policies whose steps did not all run their own schedule
/// (`auto`, and those with vetoes), those that another point has measured, and those of an earlier
/// version, which do not record how they were executed. Throws InputError where the model's
/// config.json cannot be read.
std::vector<TimedPolicy> step_times_of(const SweepPointResult& point,
                                       const Experiment& experiment,
                                       int num_ranks);

/// One table of the points of a sweep; null without any. A table has one setting, that of the first
/// step time: those under other settings (another exchange, link, hand-off) are left out.
nlohmann::json step_time_json(const std::vector<std::vector<TimedPolicy>>& points);

}  // namespace dovetail
