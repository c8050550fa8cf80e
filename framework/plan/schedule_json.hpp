// Schedules as JSON: what `dovetail plan --format json` prints and what a schedule file holds.
#pragma once

#include <string>
#include <string_view>

#include "framework/plan/schedule.hpp"

namespace dovetail {

/// {"schedule": name, "num_ubatches": n, "layers": [{"is_moe": .., "has_shared_experts": ..}],
///  "ops": [{"op": index, "phase": "attention", "layer": 0, "ubatch": 0, "lane": "compute",
///           "waits": [indices]}]}, an op a line. "layer" is -1 for embed and output. Where
/// experts are cut: "num_groups" behind "num_ubatches", and "group" of the ops that have one. Ends
/// with a newline.
std::string schedule_to_json(const Schedule& schedule);

/// The inverse. Throws InputError that names `source` (a file name), the place in it (byte or
/// "ops[17].lane") and what is allowed: text that is not JSON, a key that is unknown, missing or
/// there twice, a value of another type or out of range. It does not prove the schedule:
/// check_schedule does.
Schedule schedule_from_json(std::string_view text, const std::string& source);

}  // namespace dovetail
