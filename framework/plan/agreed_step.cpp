#include "framework/plan/agreed_step.hpp"

namespace dovetail {

std::vector<StepCuts> cut_steps(const std::vector<StepWorkload>& steps,
                                const SplitRule& rule,
                                int num_ubatches) {
  std::vector<StepCuts> cuts;
  cuts.reserve(steps.size());
  for (const auto& step : steps) {
    cuts.push_back({.split = split_batch(step.batch, rule, num_ubatches),
                    .whole = split_batch(step.batch, {}, 1)});
  }
  return cuts;
}

BoundsRule bounds_of_steps(const std::optional<std::vector<std::int64_t>>& sizes,
                           std::span<const AgreementMessage> reduced,
                           int num_ubatches) {
  std::vector<StepBounds> split;
  std::vector<StepBounds> whole;
  for (const auto& step : reduced) {
    split.push_back(exact_bounds(step, num_ubatches, true));
    whole.push_back(exact_bounds(step, 1, false));
  }
  return make_bounds_rule(sizes, split, whole);
}

AgreementRule agreement_rule(const PolicyConfig& policy,
                             const PolicySchedules& schedules,
                             WorkPhase phase,
                             const BoundsRule& bounds) {
  return {.num_ubatches = schedules.own.num_ubatches,
          .phase = phase,
          .prefill_threshold = policy.thresholds.prefill,
          .decode_threshold = policy.thresholds.decode,
          .step_times = schedules.step_times ? &*schedules.step_times : nullptr,
          .bounds = bounds};
}

AgreedStep agree_on_step(const AgreementMessage& reduced,
                         const AgreementRule& rule,
                         const PolicySchedules& schedules,
                         const StepCuts& cuts) {
  const auto decision = decide(reduced, rule);
  if (decision.ubatched || rule.num_ubatches == 1) {
    return {decision, schedules.own, schedules.own_digest, cuts.split, 0};
  }
  return {decision, schedules.plain, schedules.plain_digest, cuts.whole, 1};
}

}  // namespace dovetail
