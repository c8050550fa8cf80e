#include "framework/compare/round_intervals.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "framework/base/check.hpp"

namespace dovetail {
namespace {

struct Moments {
  double mean = 0;
  double variance = 0;  ///< of one, unbiased
  double count = 0;
};

Moments moments_of(std::span<const double> values) {
  Moments moments;
  moments.count = static_cast<double>(values.size());
  for (const double value : values) {
    moments.mean += value / moments.count;
  }
  for (const double value : values) {
    moments.variance += (value - moments.mean) * (value - moments.mean) / (moments.count - 1);
  }
  return moments;
}

std::vector<double> logarithms(std::span<const double> values) {
  std::vector<double> result;
  result.reserve(values.size());
  for (const double value : values) {
    DOVETAIL_CHECK(value > 0, "the time of a round is not positive");
    result.push_back(std::log(value));
  }
  return result;
}

/// Of the exponential.
Estimate estimate_of(double mean, double standard_error, double quantile) {
  const double half = quantile * standard_error;
  return {std::exp(mean), {std::exp(mean - half), std::exp(mean + half)}};
}

}  // namespace

double t_quantile(std::size_t degrees) {
  DOVETAIL_CHECK(degrees >= 1, "no degree of freedom");
  // Below five the series is off by more than a thousandth.
  constexpr std::array few = {12.7062, 4.30265, 3.18245, 2.77645};
  if (degrees <= few.size()) {
    return few.at(degrees - 1);
  }
  // Fisher and Cornish's series in 1 / degrees (Abramowitz and Stegun 26.7.5).
  constexpr double z = 1.959963985;
  const double v = static_cast<double>(degrees);
  const double z2 = z * z;
  return z + z * (z2 + 1) / (4 * v) + z * ((5 * z2 + 16) * z2 + 3) / (96 * v * v) +
         z * (((3 * z2 + 19) * z2 + 17) * z2 - 15) / (384 * v * v * v) +
         z * ((((79 * z2 + 776) * z2 + 1482) * z2 - 1920) * z2 - 945) / (92160 * v * v * v * v);
}

std::optional<double> error_of_mean(std::span<const double> values) {
  if (values.size() < 2) {
    return std::nullopt;
  }
  const auto moments = moments_of(values);
  return t_quantile(values.size() - 1) * std::sqrt(moments.variance / moments.count);
}

std::optional<Estimate> estimate_over_rounds(std::span<const double> rounds) {
  if (rounds.size() < kLeastRounds) {
    return std::nullopt;
  }
  const auto moments = moments_of(logarithms(rounds));
  return estimate_of(
      moments.mean, std::sqrt(moments.variance / moments.count), t_quantile(rounds.size() - 1));
}

std::optional<Estimate> paired_ratio(std::span<const double> numerator,
                                     std::span<const double> denominator) {
  DOVETAIL_CHECK_EQ(numerator.size(), denominator.size());
  std::vector<double> ratios;
  ratios.reserve(numerator.size());
  for (std::size_t round = 0; round < numerator.size(); ++round) {
    DOVETAIL_CHECK(denominator[round] > 0, "the time of a round is not positive");
    ratios.push_back(numerator[round] / denominator[round]);
  }
  return estimate_over_rounds(ratios);
}

std::optional<Estimate> unpaired_ratio(std::span<const double> numerator,
                                       std::span<const double> denominator) {
  if (std::min(numerator.size(), denominator.size()) < kLeastRounds) {
    return std::nullopt;
  }
  const auto above = moments_of(logarithms(numerator));
  const auto below = moments_of(logarithms(denominator));
  const double a = above.variance / above.count;
  const double b = below.variance / below.count;
  const double spread = a * a / (above.count - 1) + b * b / (below.count - 1);
  const double degrees = spread > 0 ? (a + b) * (a + b) / spread : above.count + below.count - 2;
  return estimate_of(above.mean - below.mean,
                     std::sqrt(a + b),
                     t_quantile(static_cast<std::size_t>(std::max(1.0, std::floor(degrees)))));
}

std::vector<double> known_rounds(std::span<const double> rounds) {
  std::vector<double> known;
  for (const double time : rounds) {
    if (std::isfinite(time)) {
      known.push_back(time);
    }
  }
  return known;
}

std::optional<Estimate> ratio_of_rounds(const RoundTimes& numerator,
                                        const RoundTimes& denominator) {
  if (!numerator.are_same_rounds(denominator)) {
    return unpaired_ratio(known_rounds(numerator.ns), known_rounds(denominator.ns));
  }
  std::vector<double> above;
  std::vector<double> below;
  for (std::size_t i = 0; i < std::min(numerator.ns.size(), denominator.ns.size()); ++i) {
    if (std::isfinite(numerator.ns[i]) && std::isfinite(denominator.ns[i])) {
      above.push_back(numerator.ns[i]);
      below.push_back(denominator.ns[i]);
    }
  }
  return paired_ratio(above, below);
}

}  // namespace dovetail
