#include "framework/compare/sweep_baseline.hpp"

#include <algorithm>
#include <optional>

#include "framework/base/error.hpp"
#include "framework/base/registry.hpp"
#include "framework/compare/flags.hpp"
#include "framework/compare/round_intervals.hpp"

namespace dovetail {
namespace {

/// The policies that any point has run, in the order of the points.
std::vector<std::string> names_of(const SweepResult& result) {
  std::vector<std::string> names;
  for (const SweepPointResult& point : result.points) {
    for (const SweepPolicy& policy : point.policies) {
      if (std::find(names.begin(), names.end(), policy.name) == names.end()) {
        names.push_back(policy.name);
      }
    }
  }
  return names;
}

/// As measured: by when their rounds began; where that is not known, by the points.
bool are_of_one_run(const SweepPolicy& one, const SweepPolicy& other) {
  return one.rounds_began_ns != 0 && other.rounds_began_ns != 0
             ? one.rounds_began_ns == other.rounds_began_ns
             : one.measured_in_point == other.measured_in_point;
}

void set_basis_flag(SweepPolicy& policy) {
  for (const Flag flag : {Flag::one_round, Flag::other_runs}) {
    std::erase(policy.flags, to_string(flag));
  }
  if (policy.speed_up_basis && policy.speed_up_basis != SpeedUpBasis::rounds) {
    const bool is_one_run = policy.speed_up_basis == SpeedUpBasis::steps;
    policy.flags.emplace_back(to_string(is_one_run ? Flag::one_round : Flag::other_runs));
  }
}

/// Over `baseline`, another policy; both have times.
void set_speed_up(const SweepPolicy& baseline, SweepPolicy& policy) {
  const bool is_one_run = are_of_one_run(baseline, policy);
  policy.speed_up_basis = is_one_run ? SpeedUpBasis::steps : SpeedUpBasis::runs;
  const auto estimate = ratio_of_rounds({baseline.round_ns, baseline.rounds_began_ns},
                                        {policy.round_ns, policy.rounds_began_ns});
  if (!estimate) {
    return;
  }
  policy.speed_up = estimate->value;
  policy.speed_up_interval = estimate->interval;
  if (is_one_run) {
    policy.speed_up_basis = SpeedUpBasis::rounds;
    policy.counts = !estimate->interval.contains(1);
  }
}

}  // namespace

void set_speed_ups(std::vector<SweepPolicy>& policies, const SweepPolicy* baseline) {
  const bool has_times = baseline != nullptr && baseline->step_ns;
  const double p50 = has_times ? baseline->step_ns->p50 : 0;
  for (SweepPolicy& policy : policies) {
    policy.speed_up.reset();
    policy.speed_up_interval.reset();
    policy.speed_up_basis.reset();
    policy.counts.reset();
    if (has_times && policy.step_ns && policy.step_ns->p50 > 0) {
      policy.speed_up = p50 / policy.step_ns->p50;
      if (&policy != baseline) {
        set_speed_up(*baseline, policy);
      }
    }
    set_basis_flag(policy);
  }
}

void set_baseline(SweepResult& result, const std::string& name) {
  const auto names = names_of(result);
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    throw InputError("--baseline: no point has run a policy '" + name + "'; " +
                     (names.empty() ? "none has results" : "there are: " + join_names(names)));
  }
  result.baseline = name;
  for (SweepPointResult& point : result.points) {
    const auto found = std::find_if(point.policies.begin(),
                                    point.policies.end(),
                                    [&](const SweepPolicy& policy) { return policy.name == name; });
    const SweepPolicy* baseline = found == point.policies.end() ? nullptr : &*found;
    set_speed_ups(point.policies, baseline);
    // Both factors are over the compute of one policy, which falls out of their quotient.
    const double whole = baseline == nullptr ? 0 : baseline->split_tax.value_or(0);
    for (SweepPolicy& policy : point.policies) {
      if (whole > 0 && policy.split_tax) {
        *policy.split_tax /= whole;
      } else {
        policy.split_tax.reset();
      }
    }
  }
}

}  // namespace dovetail
