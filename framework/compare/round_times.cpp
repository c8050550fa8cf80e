#include "framework/compare/round_times.hpp"

#include <cmath>
#include <limits>
#include <utility>

#include "framework/base/error.hpp"
#include "framework/compare/statistics.hpp"
#include "framework/record/schema.hpp"

namespace dovetail {

std::vector<std::int64_t> rounds_of_iterations(const RankFile& file, std::size_t iterations) {
  std::vector<std::int64_t> rounds(iterations, 0);
  if (file.has(path::kRound)) {
    rounds = file.read<std::int64_t>(path::kRound).values;
    rounds.resize(iterations, -1);
  }
  return rounds;
}

std::vector<double> round_times(const RankFile& file, const std::vector<double>& means) {
  const auto rounds = rounds_of_iterations(file, means.size());
  const auto num_rounds = file.has(path::kRound)
                              ? static_cast<std::size_t>(file.shape(path::kRoundPlace).at(0))
                              : std::size_t{1};
  std::vector<std::vector<double>> times(num_rounds);
  for (std::size_t i = 0; i < means.size(); ++i) {
    const bool is_known = std::isfinite(means[i]);
    if (is_known && (rounds.at(i) < 0 || static_cast<std::size_t>(rounds[i]) >= num_rounds)) {
      throw InputError(file.path().string() + ": " + path::kRound + " has round " +
                       std::to_string(rounds[i]) + " of " + std::to_string(num_rounds));
    }
    if (is_known) {
      times[static_cast<std::size_t>(rounds[i])].push_back(means[i]);
    }
  }
  std::vector<double> medians;
  medians.reserve(times.size());
  for (auto& round : times) {
    medians.push_back(round.empty() ? std::numeric_limits<double>::quiet_NaN()
                                    : statistics(std::move(round)).p50);
  }
  return medians;
}

std::int64_t rounds_began_ns(const RankFile& file) {
  return file.has_attribute(attribute::kRoundsBeganNs, path::kTiming)
             ? file.integer(attribute::kRoundsBeganNs, path::kTiming)
             : 0;
}

}  // namespace dovetail
