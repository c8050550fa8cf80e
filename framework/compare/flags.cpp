#include "framework/compare/flags.hpp"

#include <algorithm>
#include <cmath>

#include "framework/config/execution_config.hpp"

namespace dovetail {
namespace {

/// Of the p50: what may stay unexplained, the recording may cost, and steps beside profiled ones
/// may differ by.
constexpr double kMostUnexplained = 0.03;
constexpr double kMostRecording = 0.01;
constexpr double kMostOther = 0.03;

/// Of the compute: what smaller parts or an exchange beside it cannot have saved.
constexpr double kMostSaved = 0.05;

bool drifts(const PolicyResult& result) {
  return result.is_complete() && ((result.run_drift && result.run_drift->matters()) ||
                                  (result.round_drift && result.round_drift->matters()));
}

/// Whether more of the step is unexplained than what is to be explained: why it is slower or faster
/// than the baseline.
bool is_unexplained(const PolicyComparison& policy) {
  if (!policy.speed_up) {
    return false;
  }
  const auto& terms = policy.metrics->decomposition;
  const double difference = terms.measured * std::abs(*policy.speed_up - 1);
  return difference > 0 && std::abs(terms.unexplained) > difference;
}

/// Whether the baseline's profiled steps were disturbed: a cost that is far below zero.
bool was_disturbed(const Decomposition& terms) {
  return std::min(terms.split_tax, terms.contention) < -kMostSaved * terms.compute;
}

bool is_raised(const PolicyComparison& policy, Flag flag) {
  if (flag == Flag::drift) {
    return drifts(policy.result);
  }
  if (flag == Flag::control) {
    return policy.result.name == kControlPolicy && policy.counts.value_or(false);
  }
  if (flag == Flag::one_round || flag == Flag::other_runs) {
    return policy.speed_up_interval &&
           policy.basis == (flag == Flag::one_round ? SpeedUpBasis::steps : SpeedUpBasis::runs);
  }
  if (!policy.metrics) {
    return false;
  }
  const auto& terms = policy.metrics->decomposition;
  const auto is_large = [&](double term, double most) {
    return std::abs(share_of_p50(policy, term)) > most;
  };
  switch (flag) {
    case Flag::recording:
      return is_large(terms.recording.value_or(0), kMostRecording);
    case Flag::unexplained:
      return is_large(terms.unexplained, kMostUnexplained);
    case Flag::timed_vs_profiled:
      return is_large(terms.timed_vs_profiled, kMostOther);
    case Flag::not_explained:
      return is_unexplained(policy);
    case Flag::not_quiet:
      return was_disturbed(terms) && policy.other_execution.empty();
    case Flag::below_ideal:
      return terms.measured < policy.metrics->ideal_ns;
    case Flag::other_execution:
      return !policy.other_execution.empty();
    default:
      return false;
  }
}

}  // namespace

double share_of_p50(const PolicyComparison& policy, double term) {
  return policy.metrics ? term / policy.metrics->decomposition.measured : 0;
}

bool has_flag(const PolicyComparison& policy, Flag flag) {
  return is_raised(policy, flag);
}

std::vector<Flag> flags_of(const PolicyComparison& policy) {
  std::vector<Flag> flags;
  for (std::size_t i = 0; i < EnumNames<Flag>::kTable.size(); ++i) {
    if (const auto flag = static_cast<Flag>(i); is_raised(policy, flag)) {
      flags.push_back(flag);
    }
  }
  return flags;
}

std::vector<std::string> flag_names(const std::vector<Flag>& flags) {
  std::vector<std::string> names;
  names.reserve(flags.size());
  for (const Flag flag : flags) {
    names.emplace_back(to_string(flag));
  }
  return names;
}

}  // namespace dovetail
