#include "framework/compare/before_step.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "framework/base/error.hpp"
#include "framework/compare/metrics.hpp"
#include "framework/compare/statistics.hpp"
#include "framework/record/schema.hpp"

namespace dovetail {
namespace {

/// [steps of all iterations][columns] of a rank, and how many steps an iteration has.
struct RankTimes {
  std::vector<std::int64_t> values;
  std::size_t num_steps = 0;
};

RankTimes read_times(const RankFile& file) {
  auto array = file.read<std::int64_t>(path::kBeforeNs);
  return {std::move(array.values), static_cast<std::size_t>(array.shape.at(1))};
}

/// Over the ranks, of one step and column; NaN where one is not known.
double over_ranks(const std::vector<RankTimes>& ranks, std::size_t step, int column, bool most) {
  std::vector<std::int64_t> values;
  values.reserve(ranks.size());
  for (const auto& rank : ranks) {
    values.push_back(rank.values[step * kNumBeforeColumns + static_cast<std::size_t>(column)]);
  }
  const auto [least, largest] = std::minmax_element(values.begin(), values.end());
  return *least < 0 ? std::numeric_limits<double>::quiet_NaN()
                    : static_cast<double>(most ? *largest : *least);
}

/// Nothing where no iteration is known whole.
std::optional<double> median_step(const std::vector<double>& steps, std::size_t num_steps) {
  auto means = mean_steps(steps, num_steps);
  std::erase_if(means, [](double mean) { return std::isnan(mean); });
  return means.empty() ? std::nullopt : std::optional(statistics(std::move(means)).p50);
}

}  // namespace

std::optional<BeforeTimes> read_before_times(const PolicyFolder& folder) {
  std::vector<RankTimes> ranks;
  for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
    const RankFile& file = folder.rank(rank);
    if (!file.has(path::kBeforeNs)) {
      return std::nullopt;
    }
    ranks.push_back(read_times(file));
    if (ranks.back().values.size() != ranks.front().values.size() ||
        ranks.back().num_steps != ranks.front().num_steps) {
      throw InputError(file.path().string() + ": " + path::kBeforeNs +
                       " has another shape than rank 0's");
    }
  }
  std::vector<double> agreement;
  std::vector<double> preparation;
  for (std::size_t step = 0; step < ranks.front().values.size() / kNumBeforeColumns; ++step) {
    agreement.push_back(over_ranks(ranks, step, 0, false) + over_ranks(ranks, step, 2, false));
    preparation.push_back(over_ranks(ranks, step, 1, true));
  }
  const auto agreement_ns = median_step(agreement, ranks.front().num_steps);
  const auto preparation_ns = median_step(preparation, ranks.front().num_steps);
  if (!agreement_ns || !preparation_ns) {
    return std::nullopt;
  }
  return BeforeTimes{*agreement_ns, *preparation_ns};
}

}  // namespace dovetail
