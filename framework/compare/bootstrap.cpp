#include "framework/compare/bootstrap.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "framework/base/check.hpp"
#include "framework/base/order_statistics.hpp"

namespace dovetail {
namespace {

constexpr double kOutside = 0.05;  ///< of the draws, both sides together
constexpr std::size_t kMostDraws = 1000;
constexpr std::size_t kLeastDraws = 400;
constexpr std::size_t kMostDrawnSamples = 20'000'000;  ///< of all draws: a second or less

/// [0] is the variance; [k] says how samples k apart vary together.
std::vector<double> autocovariances(std::span<const double> samples, std::size_t most) {
  const auto n = static_cast<double>(samples.size());
  double mean = 0;
  for (const double sample : samples) {
    mean += sample / n;
  }
  std::vector<double> result(most + 1, 0);
  for (std::size_t k = 0; k <= most; ++k) {
    for (std::size_t i = 0; i + k < samples.size(); ++i) {
      result[k] += (samples[i] - mean) * (samples[i + k] - mean) / n;
    }
  }
  return result;
}

/// The distance from which on samples are no more alike than chance makes them.
std::size_t dependent_distance(const std::vector<double>& covariances,
                               std::size_t num_samples,
                               std::size_t run) {
  const double chance = 2 * std::sqrt(std::log10(static_cast<double>(num_samples)) /
                                      static_cast<double>(num_samples));
  std::size_t within = 0;
  for (std::size_t k = 1; k < covariances.size(); ++k) {
    if (std::abs(covariances[k]) > chance * covariances[0]) {
      within = 0;
    } else if (++within == run) {
      return k - run;
    }
  }
  std::size_t last = 0;
  for (std::size_t k = 1; k < covariances.size(); ++k) {
    last = std::abs(covariances[k]) > chance * covariances[0] ? k : last;
  }
  return last;
}

/// Medians of draws.
class Draws {
 public:
  explicit Draws(std::span<const double> samples)
      : samples_(samples), block_(block_length(samples)), drawn_(samples.size()) {}

  double next(std::mt19937_64& random) {
    for (std::size_t filled = 0; filled < drawn_.size();) {
      std::size_t place = random() % samples_.size();
      for (std::size_t i = 0; i < block_ && filled < drawn_.size(); ++i) {
        drawn_[filled++] = samples_[place];
        place = place + 1 == samples_.size() ? 0 : place + 1;  // the series is a circle
      }
    }
    return median(drawn_);
  }

 private:
  std::span<const double> samples_;
  std::size_t block_;
  std::vector<double> drawn_;
};

std::size_t num_draws(std::size_t samples) {
  return std::clamp(kMostDrawnSamples / samples, kLeastDraws, kMostDraws);
}

ConfidenceInterval middle_of(std::vector<double> statistics) {
  std::sort(statistics.begin(), statistics.end());
  const auto outside =
      static_cast<std::size_t>(kOutside / 2 * static_cast<double>(statistics.size()));
  return {statistics[outside], statistics[statistics.size() - 1 - outside]};
}

}  // namespace

std::size_t block_length(std::span<const double> samples) {
  const bool all_equal =
      std::adjacent_find(samples.begin(), samples.end(), std::not_equal_to<>()) == samples.end();
  if (samples.size() < kLeastSamples || all_equal) {
    return 1;
  }
  const auto n = static_cast<double>(samples.size());
  const auto run = static_cast<std::size_t>(std::max(5.0, std::ceil(std::sqrt(std::log10(n)))));
  const auto most =
      std::min(static_cast<std::size_t>(std::ceil(std::sqrt(n))) + run, samples.size() - 1);
  const auto covariances = autocovariances(samples, most);
  const auto distance = dependent_distance(covariances, samples.size(), run);
  // Sums over both sides of a window that is flat up to its half and falls to zero at its end.
  const auto window = std::min(std::max<std::size_t>(1, 2 * distance), most);
  double spectrum = covariances[0];
  double slope = 0;
  for (std::size_t k = 1; k <= window; ++k) {
    const double place = static_cast<double>(k) / static_cast<double>(window);
    const double weight = place <= 0.5 ? 1 : 2 * (1 - place);
    spectrum += 2 * weight * covariances[k];
    slope += 2 * weight * static_cast<double>(k) * covariances[k];
  }
  const double spread = 4.0 / 3.0 * spectrum * spectrum;
  if (spread <= 0) {
    return 1;
  }
  const double length = std::cbrt(2 * slope * slope / spread * n);
  const double longest = std::min(3 * std::sqrt(n), n / 3);
  return static_cast<std::size_t>(std::clamp(std::ceil(length), 1.0, std::max(1.0, longest)));
}

std::optional<ConfidenceInterval> median_interval(std::span<const double> samples) {
  if (samples.size() < kLeastSamples) {
    return std::nullopt;
  }
  std::mt19937_64 random(1);
  Draws draws(samples);
  std::vector<double> medians(num_draws(samples.size()));
  std::generate(medians.begin(), medians.end(), [&] { return draws.next(random); });
  return middle_of(std::move(medians));
}

std::optional<ConfidenceInterval> median_ratio_interval(std::span<const double> numerator,
                                                        std::span<const double> denominator) {
  if (std::min(numerator.size(), denominator.size()) < kLeastSamples) {
    return std::nullopt;
  }
  DOVETAIL_CHECK(*std::min_element(denominator.begin(), denominator.end()) > 0,
                 "a ratio over samples that are not positive");
  std::mt19937_64 random(1);
  Draws above(numerator);
  Draws below(denominator);
  std::vector<double> ratios(num_draws(std::max(numerator.size(), denominator.size())));
  std::generate(ratios.begin(), ratios.end(), [&] {
    const double top = above.next(random);
    return top / below.next(random);
  });
  return middle_of(std::move(ratios));
}

}  // namespace dovetail
