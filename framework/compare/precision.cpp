#include "framework/compare/precision.hpp"

#include <algorithm>
#include <iterator>

#include "framework/compare/round_intervals.hpp"
#include "framework/config/execution_config.hpp"

namespace dovetail {
namespace {

double error_of(double value, const ConfidenceInterval& interval) {
  return std::max(interval.high - value, value - interval.low) / value;
}

}  // namespace

std::optional<double> error_of_rounds(std::span<const double> rounds) {
  if (std::ssize(rounds) < kLeastPreciseRounds) {
    return std::nullopt;
  }
  const auto estimate = estimate_over_rounds(rounds);
  return estimate ? std::optional(error_of(estimate->value, estimate->interval)) : std::nullopt;
}

}  // namespace dovetail
