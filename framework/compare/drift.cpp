#include "framework/compare/drift.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "framework/base/check.hpp"
#include "framework/compare/round_intervals.hpp"
#include "framework/compare/statistics.hpp"

namespace dovetail {
namespace {

constexpr double kNormalQuantile = 1.959963985;  ///< 97.5 % are below
constexpr std::size_t kMostSamples = 400;        ///< of a trend: the pairs grow with the square
constexpr std::size_t kDriftParts = 6;           ///< of a run of one round
constexpr std::size_t kLeastIterationsOfRound = 3;

/// Samples in the order of time.
using Group = std::vector<double>;

/// Medians of that many parts, as equally long as can be.
Group parts_of(const Group& samples, std::size_t parts) {
  Group result;
  for (std::size_t part = 0; part < parts; ++part) {
    const auto at = [&](std::size_t end) {
      return samples.begin() + static_cast<std::ptrdiff_t>(samples.size() * end / parts);
    };
    result.push_back(statistics(std::vector<double>(at(part), at(part + 1))).p50);
  }
  return result;
}

/// Of all pairs, ascending.
std::vector<double> slopes_of(const Group& samples) {
  std::vector<double> slopes;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    for (std::size_t j = i + 1; j < samples.size(); ++j) {
      slopes.push_back((samples[j] - samples[i]) / static_cast<double>(j - i));
    }
  }
  std::sort(slopes.begin(), slopes.end());
  return slopes;
}

/// Of logarithms: medians of at least kLeastDriftRounds parts of a run of `iterations`.
Drift trend_of(const Group& samples, std::size_t iterations) {
  const auto slopes = slopes_of(samples);
  const double n = static_cast<double>(samples.size());
  const double deviation = std::sqrt(n * (n - 1) * (2 * n + 5) / 18);  // of Kendall's S
  const double outside = (static_cast<double>(slopes.size()) - kNormalQuantile * deviation) / 2;
  const auto from_end = static_cast<std::size_t>(std::max(0.0, std::floor(outside) - 1));
  const double parts = n * (1 - 1 / static_cast<double>(iterations));  // first to last iteration
  const auto change = [&](double slope) { return std::expm1(slope * parts); };
  return {change(statistics(slopes).p50),
          {change(slopes[from_end]), change(slopes[slopes.size() - 1 - from_end])}};
}

/// By round, the logarithms of the times that are there.
std::vector<Group> by_round(std::span<const double> times, std::span<const std::int64_t> rounds) {
  DOVETAIL_CHECK_EQ(times.size(), rounds.size());
  std::vector<Group> groups;
  for (std::size_t i = 0; i < times.size(); ++i) {
    if (i == 0 || rounds[i] != rounds[i - 1]) {
      groups.emplace_back();
    }
    if (std::isfinite(times[i])) {
      DOVETAIL_CHECK(times[i] > 0, "the time of an iteration is not positive");
      groups.back().push_back(std::log(times[i]));
    }
  }
  std::erase_if(groups, [](const Group& group) { return group.empty(); });
  return groups;
}

}  // namespace

bool Drift::matters() const {
  return std::abs(change) > kDriftThatMatters && !interval.contains(0);
}

std::optional<Drift> run_drift(std::span<const double> times,
                               std::span<const std::int64_t> rounds) {
  const auto groups = by_round(times, rounds);
  Group samples;
  if (groups.size() >= kLeastDriftRounds) {
    for (const Group& group : groups) {
      samples.push_back(statistics(group).p50);
    }
    return trend_of(parts_of(samples, std::min(samples.size(), kMostSamples)), times.size());
  }
  // Of few rounds nobody can say whether they differ by chance.
  if (groups.size() != 1 || groups.front().size() < kLeastSamples) {
    return std::nullopt;
  }
  return trend_of(parts_of(groups.front(), kDriftParts), times.size());
}

std::optional<Drift> round_drift(std::span<const double> times,
                                 std::span<const std::int64_t> rounds) {
  const auto groups = by_round(times, rounds);
  std::vector<double> ratios;  // last over first iteration
  for (const Group& group : groups) {
    if (group.size() >= kLeastIterationsOfRound) {
      const auto slopes = slopes_of(parts_of(group, std::min(group.size(), kMostSamples)));
      const auto steps = static_cast<double>(std::min(group.size(), kMostSamples) - 1);
      ratios.push_back(std::exp(statistics(slopes).p50 * steps));
    }
  }
  const auto estimate = estimate_over_rounds(ratios);
  if (!estimate) {
    return std::nullopt;
  }
  return Drift{estimate->value - 1, {estimate->interval.low - 1, estimate->interval.high - 1}};
}

}  // namespace dovetail
