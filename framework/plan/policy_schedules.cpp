#include "framework/plan/policy_schedules.hpp"

#include "framework/base/hash.hpp"
#include "framework/base/text.hpp"
#include "framework/config/schedule_rules.hpp"
#include "framework/plan/policies/automatic.hpp"
#include "framework/plan/policy.hpp"
#include "framework/plan/schedule_check.hpp"
#include "framework/plan/schedule_file.hpp"
#include "framework/plan/schedule_sms.hpp"
#include "framework/plan/step_time_setting.hpp"

namespace dovetail {
namespace {

/// What the policy's own schedule is made from: the name of an overlap policy, or a file.
const std::string& source_of(const PolicyConfig& policy) {
  return policy.schedule == "auto" ? policy.candidate : policy.schedule;
}

/// Not proven. Throws InputError.
Schedule make_schedule(const PolicyConfig& policy, const ModelShape& model, WorkPhase phase) {
  const std::string& from = source_of(policy);
  if (is_schedule_file(from)) {
    return read_schedule_file(from, model, policy.ubatches);
  }
  const Policy& entry = policy.schedule == "auto" ? find_candidate(from) : policies().at(from);
  return entry.make_schedule(
      {.model = model,
       .phase = phase,
       .num_ubatches = policy.ubatches > 0 ? policy.ubatches : entry.default_ubatches,
       .stages = policy.stages,
       .num_groups = policy.groups > 0 ? policy.groups : entry.default_groups});
}

/// Errors do not name the policy.
Schedule make_proven(const PolicyConfig& policy, const ModelShape& model, WorkPhase phase) {
  auto schedule = make_schedule(policy, model, phase);
  check_schedule(schedule);
  return schedule;
}

/// What could not be known of a policy before its schedule file was read.
void check_counts(const PolicyConfig& policy, const std::string& file, int num_ubatches) {
  const auto refuse = [&](const std::string& what) {
    throw InputError(what + " for the " + counted(num_ubatches, "ubatch") + " of " + file);
  };
  if (policy.split.kind == "sizes" &&
      policy.split.sizes.size() != static_cast<std::size_t>(num_ubatches)) {
    refuse("split: " + counted(std::ssize(policy.split.sizes), "size"));
  }
  for (const auto threshold : {policy.thresholds.prefill, policy.thresholds.decode}) {
    if (threshold > 0 && threshold < num_ubatches) {
      refuse("a threshold of " + counted(threshold, "token"));
    }
  }
}

/// What its points in a table of step times must be of.
StepTimeCandidate candidate_of(const Schedule& schedule,
                               std::uint64_t digest,
                               const std::string& split,
                               int comm_sms) {
  return {.schedule = schedule.name,
          .schedule_digest = std::to_string(digest),
          .ubatches = schedule.num_ubatches,
          .split = split,
          .comm_sms = comm_sms};
}

/// Runs `make`, whose errors do not name the policy.
template <class Make>
auto naming(const PolicyConfig& policy, const Make& make) {
  try {
    return make();
  } catch (const InputError& error) {
    throw InputError("policy " + policy.name + ": " + error.what());
  }
}

PolicySchedules make_unnamed(const PolicyConfig& policy,
                             const ModelShape& model,
                             WorkPhase phase,
                             const StepTimeSetting* setting) {
  const bool is_auto = policy.schedule == "auto";
  const std::string& from = source_of(policy);
  PolicySchedules schedules = {
      .own = make_proven(policy, model, phase),
      .plain = policies().at("sequential").make_schedule({.model = model, .phase = phase}),
      .step_times = std::nullopt};
  check_schedule(schedules.plain);
  schedules.own_digest = schedule_digest(schedules.own);
  schedules.plain_digest = schedule_digest(schedules.plain);
  if (is_schedule_file(from)) {
    check_counts(policy, from, schedules.own.num_ubatches);
  }
  if (!is_auto) {
    return schedules;
  }
  if (schedules.own.num_ubatches < 2) {
    throw InputError("auto cannot choose the one ubatch of " + from +
                     " against sequential; allowed: 2 to " + std::to_string(kMaxUbatches));
  }
  const auto table = read_step_time_table(policy.table);
  if (setting != nullptr) {
    check_setting(table, *setting);
  }
  schedules.step_times =
      select_curves(table,
                    candidate_of(schedules.plain,
                                 schedules.plain_digest,
                                 "",
                                 schedule_sms(policy.execution.comm_sms, schedules.plain)),
                    candidate_of(schedules.own,
                                 schedules.own_digest,
                                 step_time_split(policy.split),
                                 schedule_sms(policy.execution.comm_sms, schedules.own)));
  return schedules;
}

}  // namespace

std::uint64_t PolicySchedules::digest() const {
  return step_times ? combine_hash(own_digest, curves_digest(*step_times)) : own_digest;
}

PolicySchedules make_policy_schedules(const PolicyConfig& policy,
                                      const ModelShape& model,
                                      WorkPhase phase,
                                      const StepTimeSetting* setting) {
  return naming(policy, [&] { return make_unnamed(policy, model, phase, setting); });
}

Schedule make_own_schedule(const PolicyConfig& policy, const ModelShape& model, WorkPhase phase) {
  return naming(policy, [&] { return make_proven(policy, model, phase); });
}

}  // namespace dovetail
