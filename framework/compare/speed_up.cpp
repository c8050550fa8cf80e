// How sure step times and speed-ups of policies are.
#include <filesystem>

#include "framework/base/file_system.hpp"
#include "framework/compare/policy_result.hpp"
#include "framework/compare/round_intervals.hpp"

namespace dovetail {
namespace {

/// By when their rounds began; where that is not known, by their folders.
bool are_of_one_run(const PolicyResult& one, const PolicyResult& other) {
  if (one.rounds_began_ns != 0 && other.rounds_began_ns != 0) {
    return one.rounds_began_ns == other.rounds_began_ns;
  }
  const auto run = [](const PolicyResult& result) {
    return real_path_of(result.folder).parent_path();
  };
  return run(one) == run(other);
}

}  // namespace

std::optional<ConfidenceInterval> step_interval(const PolicyResult& result) {
  if (const auto estimate = estimate_over_rounds(known_rounds(result.round_ns))) {
    return estimate->interval;
  }
  return median_interval(result.step_times_ns);
}

SpeedUp speed_up_of(const PolicyResult& baseline, const PolicyResult& own) {
  const RoundTimes above = {baseline.round_ns, baseline.rounds_began_ns};
  const RoundTimes below = {own.round_ns, own.rounds_began_ns};
  const bool is_one_run = are_of_one_run(baseline, own);
  if (const auto estimate = ratio_of_rounds(above, below)) {
    return {estimate->value,
            estimate->interval,
            is_one_run ? SpeedUpBasis::rounds : SpeedUpBasis::runs};
  }
  return {baseline.step_ns.p50 / own.step_ns.p50,
          median_ratio_interval(baseline.step_times_ns, own.step_times_ns),
          is_one_run ? SpeedUpBasis::steps : SpeedUpBasis::runs};
}

}  // namespace dovetail
