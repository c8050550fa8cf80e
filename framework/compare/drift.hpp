// Whether step times change while a run goes on: clocks that fall as a device grows hot, memory
// that fills, another job that comes. What drifts has no step time; the median is of no moment.
//
// Over the run the trend is Theil and Sen's: the median slope of all pairs, which outliers do not
// move, of the logarithms of the medians of rounds; its interval is Sen's. What changes from round
// to round makes all iterations of a round alike, so a round is one sample. A run of one round is
// cut into six parts instead, long enough that one part's last iterations say little of the next
// part's first ones. Within rounds the trend of each round is one sample.
// Source: Sen, "Estimates of the regression coefficient based on Kendall's tau" (1968).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "framework/compare/bootstrap.hpp"

namespace dovetail {

/// A change that is less than this, as a share, is not spoken of.
inline constexpr double kDriftThatMatters = 0.02;

/// A run of fewer rounds shows no drift, but one of a single round with kLeastSamples iterations.
inline constexpr std::size_t kLeastDriftRounds = 5;

struct Drift {
  double change = 0;            ///< from the first to the last: 0.1 = takes 10 % longer at the end
  ConfidenceInterval interval;  ///< of it, 95 %

  bool matters() const;
};

/// Over the run. `times`: of each iteration in the order of time, positive or NaN = not there;
/// `rounds`: of each. Nothing with too few. Pure.
std::optional<Drift> run_drift(std::span<const double> times, std::span<const std::int64_t> rounds);

/// From the first to the last iteration of a round. Nothing with fewer than kLeastRounds rounds of
/// three iterations. Pure.
std::optional<Drift> round_drift(std::span<const double> times,
                                 std::span<const std::int64_t> rounds);

}  // namespace dovetail
