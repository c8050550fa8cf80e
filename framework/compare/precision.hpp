// When step times are known precisely enough (`execution.precision`): a run ends then.
#pragma once

#include <optional>
#include <span>

namespace dovetail {

/// How far the farther end of the 95 % interval of the step time lies from it, as a share: of the
/// medians of rounds; nothing with fewer than kLeastPreciseRounds. Positive times. Pure.
std::optional<double> error_of_rounds(std::span<const double> rounds);

/// Likewise of the median of iterations, in the order of time; nothing with fewer than
/// kLeastPreciseIterations. Pure.
std::optional<double> error_of_iterations(std::span<const double> iterations);

}  // namespace dovetail
