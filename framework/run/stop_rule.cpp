#include "framework/run/stop_rule.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "framework/compare/metrics.hpp"
#include "framework/compare/precision.hpp"
#include "framework/mpi/collectives.hpp"

namespace dovetail {

void StopRule::add(std::size_t policy,
                   std::vector<std::int64_t> step_ns,
                   std::size_t steps_per_iteration,
                   bool is_new_round) {
  all_reduce(run_.ranks.groups.world, step_ns, Reduction::max, run_.ranks.wait);
  auto& rounds = policies_.at(policy);
  if (is_new_round) {
    rounds.emplace_back();
  }
  const auto means = mean_steps(slowest_ranks({std::move(step_ns)}), steps_per_iteration);
  rounds.back().insert(rounds.back().end(), means.begin(), means.end());
}

bool StopRule::is_enough_of_rounds() const {
  return agree(std::all_of(policies_.begin(), policies_.end(), [&](const auto& rounds) {
    std::vector<double> medians;
    medians.reserve(rounds.size());
    for (const auto& round : rounds) {
      medians.push_back(statistics(round).p50);
    }
    const auto error = error_of_rounds(medians);
    return error && *error <= precision_;
  }));
}

bool StopRule::is_enough_of_iterations(std::size_t policy) const {
  const auto error = error_of_iterations(policies_.at(policy).front());
  return agree(error && *error <= precision_);
}

/// Two hosts may round otherwise.
bool StopRule::agree(bool own) const {
  std::array<std::int64_t, 1> word = {run_.is_first_rank() && own ? 1 : 0};
  all_reduce(run_.ranks.groups.world, word, Reduction::max, run_.ranks.wait);
  return word[0] == 1;
}

}  // namespace dovetail
