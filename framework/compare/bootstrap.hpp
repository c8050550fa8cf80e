// How sure a median of step times is: confidence intervals by the circular block bootstrap.
//
// Blocks of neighbouring samples are drawn with replacement until there are as many samples as
// before; the statistic of each of many such draws is computed, and the interval leaves out the
// same share of them on both sides. Blocks keep what makes neighbours alike (a clock that changes,
// another job), which draws of single samples would take for independent measurements and so
// promise too much.
// Sources: Politis and Romano, "A circular block-resampling procedure for stationary data" (1992);
// length of blocks: Politis and White, "Automatic block-length selection for the dependent
// bootstrap", Econometric Reviews 23 (2004), with the correction of Patton, Politis and White
// (2009).
#pragma once

#include <cstddef>
#include <optional>
#include <span>

namespace dovetail {

struct ConfidenceInterval {
  double low = 0;
  double high = 0;

  bool contains(double value) const { return low <= value && value <= high; }
};

/// With fewer samples there is no interval.
inline constexpr std::size_t kLeastSamples = 10;

/// Samples of a block, from how alike neighbours are: 1 for independent samples, at most a third of
/// them. Pure.
std::size_t block_length(std::span<const double> samples);

/// Of the median: in 95 of 100 measurements like this one it holds the median that more samples
/// would come to. `samples`: in the order of time. Equal samples give equal intervals. Pure.
std::optional<ConfidenceInterval> median_interval(std::span<const double> samples);

/// Of the median of `numerator` over that of `denominator`, two series that do not depend on each
/// other; all samples are positive. As median_interval.
std::optional<ConfidenceInterval> median_ratio_interval(std::span<const double> numerator,
                                                        std::span<const double> denominator);

}  // namespace dovetail
