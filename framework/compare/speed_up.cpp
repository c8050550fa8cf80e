// How sure step times and speed-ups of policies are.
#include "framework/compare/policy_result.hpp"
#include "framework/compare/round_intervals.hpp"

namespace dovetail {
std::optional<ConfidenceInterval> step_interval(const PolicyResult& result) {
  if (const auto estimate = estimate_over_rounds(known_rounds(result.round_ns))) {
    return estimate->interval;
  }
  return median_interval(result.step_times_ns);
}

SpeedUp speed_up_of(const PolicyResult& baseline, const PolicyResult& own) {
  const RoundTimes above = {baseline.round_ns, baseline.rounds_began_ns};
  const RoundTimes below = {own.round_ns, own.rounds_began_ns};
  if (const auto estimate = ratio_of_rounds(above, below)) {
    return {estimate->value, estimate->interval, above.are_same_rounds(below)};
  }
  return {baseline.step_ns.p50 / own.step_ns.p50,
          median_ratio_interval(baseline.step_times_ns, own.step_times_ns)};
}

}  // namespace dovetail
