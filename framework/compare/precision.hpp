// When step times are known precisely enough (`execution.precision`): a run ends then.
#pragma once

#include <optional>
#include <span>

namespace dovetail {

/// How far the farther end of the 95 % interval of the step time lies from it, as a share: of the
/// medians of rounds; nothing with fewer than kLeastPreciseRounds. Positive times. Pure.
std::optional<double> error_of_rounds(std::span<const double> rounds);

}  // namespace dovetail
