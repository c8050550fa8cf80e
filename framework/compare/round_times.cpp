#include "framework/compare/round_times.hpp"

#include <algorithm>
#include <limits>

#include "framework/base/error.hpp"
#include "framework/compare/metrics.hpp"
#include "framework/record/schema.hpp"

namespace dovetail {
namespace {

/// Of an iteration, over its number of steps; nothing where a rank has not finished it.
std::optional<double> mean_step(const std::vector<std::vector<std::int64_t>>& step_ns,
                                std::size_t first,
                                std::size_t num_steps) {
  double sum = 0;
  for (std::size_t step = first; step < first + num_steps; ++step) {
    std::int64_t slowest = 0;
    for (const auto& rank : step_ns) {
      if (rank[step] < 0) {
        return std::nullopt;
      }
      slowest = std::max(slowest, rank[step]);
    }
    sum += static_cast<double>(slowest);
  }
  return sum / static_cast<double>(num_steps);
}

}  // namespace

std::vector<double> round_times(const RankFile& file,
                                const std::vector<std::vector<std::int64_t>>& step_ns) {
  const auto num_steps = static_cast<std::size_t>(file.shape(path::kStepNs).at(1));
  const std::size_t num_iterations = num_steps == 0 ? 0 : step_ns.front().size() / num_steps;
  std::vector<std::int64_t> rounds(num_iterations, 0);
  std::size_t num_rounds = 1;
  if (file.has(path::kRound)) {
    rounds = file.read<std::int64_t>(path::kRound).values;
    num_rounds = static_cast<std::size_t>(file.shape(path::kRoundPlace).at(0));
  }
  std::vector<std::vector<double>> times(num_rounds);
  for (std::size_t i = 0; i < num_iterations; ++i) {
    const auto time = mean_step(step_ns, i * num_steps, num_steps);
    if (time && (rounds[i] < 0 || static_cast<std::size_t>(rounds[i]) >= num_rounds)) {
      throw InputError(file.path().string() + ": " + path::kRound + " has round " +
                       std::to_string(rounds[i]) + " of " + std::to_string(num_rounds));
    }
    if (time) {
      times[static_cast<std::size_t>(rounds[i])].push_back(*time);
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
