// The schedules that the steps of a policy may use: made for a model, proven, with what an `auto`
// policy decides by.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "framework/config/experiment.hpp"
#include "framework/plan/schedule.hpp"
#include "framework/plan/step_time_table.hpp"

namespace dovetail {

/// Its own schedule (auto: its candidate's), and the plain one for vetoed steps (the same where the
/// policy is sequential).
struct PolicySchedules {
  Schedule own;
  Schedule plain;
  std::uint64_t own_digest = 0;  ///< schedule_digest of each, made once
  std::uint64_t plain_digest = 0;
  std::optional<StepTimeCurves> step_times;  ///< auto only: what it decides by

  std::size_t max_ops() const { return std::max(own.ops.size(), plain.ops.size()); }

  /// A number that is equal for equal schedules and step times, for the agreement: each rank reads
  /// the files for itself.
  std::uint64_t digest() const;
};

/// Makes and proves both; reads the policy's schedule file and its table of step times, if any.
/// `setting` is this run's (step_time_setting.hpp), which the table must have; null = not compared,
/// where nothing will run. Local. Throws InputError "policy <name>: ...", which names the file for
/// what a file is to blame for.
PolicySchedules make_policy_schedules(const PolicyConfig& policy,
                                      const ModelShape& model,
                                      WorkPhase phase,
                                      const StepTimeSetting* setting = nullptr);

/// The first of them alone, proven; reads no table. Throws as make_policy_schedules.
Schedule make_own_schedule(const PolicyConfig& policy, const ModelShape& model, WorkPhase phase);

}  // namespace dovetail
