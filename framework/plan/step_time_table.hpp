// A table of measured step times, which the policy `auto` decides by: read from a JSON file that an
// earlier sweep wrote, and checked against the run that wants to use it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "framework/plan/step_time_curves.hpp"

namespace dovetail {

inline constexpr int kStepTimeTableVersion = 2;

/// Under which conditions steps were timed: name to value as compact JSON ("\"float32\"", "2"). Two
/// settings are equal if all names and values are; step_time_setting.hpp makes a run's.
using StepTimeSetting = std::map<std::string, std::string>;

/// The step time of one policy on one workload.
struct StepTimePoint {
  std::string policy;           ///< the label that the policy had in its experiment
  std::string schedule;         ///< name of the schedule that ran: "sequential", "dual_batch", ...
  std::string schedule_digest;  ///< of the schedule that ran, in decimal, as a rank file records it
  int ubatches = 1;
  std::string split;          ///< step_time_split() of the policy; "" = one ubatch
  int comm_sms = 0;           ///< that the exchange could take on a GPU, or kAllSms; 0 = on the CPU
  std::int64_t tokens = 0;    ///< of a step, maximum over ranks
  double context_tokens = 0;  ///< mean over the requests of all ranks
  bool one_token_each = false;  ///< every request computed one token (decode)
  double step_ms = 0;           ///< p50 of the slowest rank's
  double step_ms_error = 0;     ///< half of its 95 % interval; 0 = not known

  friend bool operator==(const StepTimePoint&, const StepTimePoint&) = default;
};

struct StepTimeTable {
  std::string file;  ///< where it was read, for messages
  StepTimeSetting setting;
  std::vector<StepTimePoint> points;
};

/// {"version": 2, "setting": {name: value}, "points": [{"policy": .., "schedule": ..,
/// "schedule_digest": .., "ubatches": .., "split": .., "comm_sms": .., "tokens": ..,
/// "context_tokens": .., "one_token_each": .., "step_ms": .., "step_ms_error": ..}]}, or an object
/// that holds this under the key "step_times" (what a sweep writes). "split" may be absent where
/// there is one ubatch, "step_ms_error" where it is not known, "comm_sms" on the CPU ("all":
/// nothing bounded the exchange); where the setting states it, it holds for all points. Throws
/// InputError that names the file and the place
/// ("points[3].tokens").
StepTimeTable parse_step_time_table(std::string_view text, const std::string& file);

/// parse_step_time_table of a file of at most 64 MiB.
StepTimeTable read_step_time_table(const std::string& path);

/// The table itself, as JSON text without a line end; parse_step_time_table reads it back.
std::string step_time_table_to_json(const StepTimeTable& table);

/// Throws InputError that names each field in which the table's setting is not `run`'s, with both
/// values.
void check_setting(const StepTimeTable& table, const StepTimeSetting& run);

/// One of the two that auto chooses between; its points are those that are equal in all of this.
struct StepTimeCandidate {
  std::string schedule;         ///< name of the schedule
  std::string schedule_digest;  ///< in decimal
  int ubatches = 2;
  std::string split;  ///< step_time_split() of the policy; "" = one ubatch
  int comm_sms = 0;   ///< where the table has points with several: these are taken; 0 = any
};

/// The points of the schedule without overlap and of the candidate. Throws InputError, listing the
/// policies that the table has, where it lacks either or has several policies that fit.
StepTimeCurves select_curves(const StepTimeTable& table,
                             const StepTimeCandidate& plain,
                             const StepTimeCandidate& candidate);

}  // namespace dovetail
