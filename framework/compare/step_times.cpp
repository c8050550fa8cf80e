// Times of steps over ranks, and how even a load is.
#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>

#include "framework/base/check.hpp"
#include "framework/compare/metrics.hpp"

namespace dovetail {

std::vector<double> slowest_ranks(const std::vector<std::vector<std::int64_t>>& step_ns) {
  const std::size_t num_steps = step_ns.empty() ? 0 : step_ns.front().size();
  for (const auto& rank : step_ns) {
    DOVETAIL_CHECK_EQ(rank.size(), num_steps);
  }
  std::vector<double> slowest;
  for (std::size_t step = 0; step < num_steps; ++step) {
    std::int64_t least = step_ns.front()[step];
    std::int64_t most = least;
    for (const auto& rank : step_ns) {
      least = std::min(least, rank[step]);
      most = std::max(most, rank[step]);
    }
    const auto slow = static_cast<double>(most);
    slowest.push_back(least < 0 ? std::numeric_limits<double>::quiet_NaN() : slow);
  }
  return slowest;
}

std::vector<double> mean_steps(const std::vector<double>& slowest, std::size_t num_steps) {
  std::vector<double> means;
  if (num_steps == 0) {
    return means;
  }
  DOVETAIL_CHECK_EQ(slowest.size() % num_steps, 0U);
  for (auto step = slowest.begin(); step != slowest.end();) {
    const auto next = step + static_cast<std::ptrdiff_t>(num_steps);
    means.push_back(std::accumulate(step, next, 0.0) / static_cast<double>(num_steps));
    step = next;
  }
  return means;
}

double imbalance(const std::vector<std::int64_t>& counts) {
  const double sum = static_cast<double>(
      std::accumulate(counts.begin(), counts.end(), static_cast<std::int64_t>(0)));
  if (sum == 0) {
    return 1;
  }
  const auto most = *std::max_element(counts.begin(), counts.end());
  return static_cast<double>(most) * static_cast<double>(counts.size()) / sum;
}

double imbalance_over_layers(const std::vector<std::vector<std::int64_t>>& counts) {
  double sum_of_most = 0;
  double sum_of_means = 0;
  for (const auto& layer : counts) {
    if (layer.empty()) {
      continue;
    }
    sum_of_most += static_cast<double>(*std::max_element(layer.begin(), layer.end()));
    sum_of_means += static_cast<double>(
                        std::accumulate(layer.begin(), layer.end(), static_cast<std::int64_t>(0))) /
                    static_cast<double>(layer.size());
  }
  return sum_of_means == 0 ? 1 : sum_of_most / sum_of_means;
}

}  // namespace dovetail
