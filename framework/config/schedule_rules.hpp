// Rules of a policy's schedule that the experiment file and the plan have in common.
#pragma once

#include <string_view>

namespace dovetail {

/// Upper bound of the stages that one ubatch of `staged` is behind the one before.
inline constexpr int kMaxStageDelta = 1000;

/// True for a policy's `schedule:` (or `candidate:`) that is the path of a file.
inline bool is_schedule_file(std::string_view schedule) {
  return schedule.ends_with(".json");
}

}  // namespace dovetail
