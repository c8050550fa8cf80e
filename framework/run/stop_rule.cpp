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
                   std::size_t steps_per_iteration) {
  all_reduce(run_.ranks.groups.world, step_ns, Reduction::max, run_.ranks.wait);
  auto means = mean_steps(slowest_ranks({std::move(step_ns)}), steps_per_iteration);
  policies_.at(policy).push_back(statistics(std::move(means)).p50);
}

bool StopRule::is_enough() const {
  return agree(std::all_of(policies_.begin(), policies_.end(), [&](const auto& rounds) {
    const auto error = error_of_rounds(rounds);
    return error && *error <= precision_;
  }));
}

/// Two hosts may round otherwise.
bool StopRule::agree(bool own) const {
  std::array<std::int64_t, 1> word = {run_.is_first_rank() && own ? 1 : 0};
  all_reduce(run_.ranks.groups.world, word, Reduction::max, run_.ranks.wait);
  return word[0] == 1;
}

}  // namespace dovetail
