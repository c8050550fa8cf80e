// What the policies of a sweep are compared with.
#pragma once

#include <string>
#include <vector>

#include "framework/compare/sweep_result.hpp"

namespace dovetail {

/// Sets `speed_up` of each policy of a point, over `baseline`, one of them: by their rounds, with
/// an interval, else its p50 over the own. Null, or a baseline without times: none has one.
void set_speed_ups(std::vector<SweepPolicy>& policies, const SweepPolicy* baseline);

/// Makes the policy of that name the baseline of each point: speed_up and split_tax refer to it
/// then, and are empty where the point has no times of it. Throws InputError that lists the
/// sweep's policies where no point has run it.
void set_baseline(SweepResult& result, const std::string& name);

}  // namespace dovetail
