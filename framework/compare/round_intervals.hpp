// How sure step times and speed-ups are where a run has rounds: intervals over the rounds.
//
// The median of each round is one measurement, which holds all that drifts between rounds. Policies
// of the same rounds are compared within each round, so that what changes slowly falls out. Times
// are products of what disturbs them: logarithms are averaged, and the interval is Student's.
// A bootstrap of so few values promises too much: of five, 95 % of its draws hold the mean in 83 of
// 100 cases.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "framework/base/enum_names.hpp"
#include "framework/compare/bootstrap.hpp"

namespace dovetail {

/// With fewer rounds there is no interval.
inline constexpr std::size_t kLeastRounds = 3;

/// What the interval of a speed-up is over. `rounds`: those of one run. `steps`: of one round, or
/// two; how rounds differ is not known. `runs`: rounds or steps of two runs; how runs differ is not
/// known. Only the first one lets a difference be claimed: equal policies were told apart in 8 of
/// 50 runs of one round, and in up to a third of pairs of runs whose machine is not as fast in
/// each.
enum class SpeedUpBasis { rounds, steps, runs };

template <>
struct EnumNames<SpeedUpBasis> {
  static constexpr std::array<std::string_view, 3> kTable = {"rounds", "steps", "runs"};
};

/// What 97.5 of 100 draws of Student's t with that many degrees of freedom (at least 1) are below.
double t_quantile(std::size_t degrees);

/// Half of the 95 % interval of the mean, by Student's t; of either sign. Nothing of fewer than
/// two. Pure.
std::optional<double> error_of_mean(std::span<const double> values);

/// A ratio or a time, with the interval that holds what more rounds would come to in 95 of 100
/// measurements like this one.
struct Estimate {
  double value = 0;
  ConfidenceInterval interval;
};

/// Of the geometric mean over rounds; all positive. Nothing with too few. Pure.
std::optional<Estimate> estimate_over_rounds(std::span<const double> rounds);

/// Those rounds that have a time.
std::vector<double> known_rounds(std::span<const double> rounds);

/// Of `numerator` over `denominator`, round by round: equally many of the same rounds. Pure.
std::optional<Estimate> paired_ratio(std::span<const double> numerator,
                                     std::span<const double> denominator);

/// Likewise of rounds that have nothing to do with each other, as those of two runs (Welch's
/// interval). Pure.
std::optional<Estimate> unpaired_ratio(std::span<const double> numerator,
                                       std::span<const double> denominator);

/// The rounds of a policy: NaN where one has no time.
struct RoundTimes {
  std::span<const double> ns;
  std::int64_t began_ns = 0;  ///< equal where two had the same rounds; 0 = not known

  bool are_same_rounds(const RoundTimes& other) const {
    return began_ns != 0 && began_ns == other.began_ns;
  }
};

/// `numerator` over `denominator`: paired where both had the same rounds. Pure.
std::optional<Estimate> ratio_of_rounds(const RoundTimes& numerator, const RoundTimes& denominator);

}  // namespace dovetail
