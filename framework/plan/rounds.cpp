#include "framework/plan/rounds.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "framework/base/check.hpp"
#include "framework/base/hash.hpp"

namespace dovetail {
namespace {

constexpr int kTurnsOfARound = 2;

}  // namespace

int num_rounds(int asked, int variants, std::span<const int> iterations, int most_unasked) {
  DOVETAIL_CHECK(!iterations.empty() && variants > 0, "no policy or no variant");
  if (asked > 0) {
    return asked;
  }
  const int fewest = *std::min_element(iterations.begin(), iterations.end());
  return std::clamp(fewest / (kTurnsOfARound * variants), 1, most_unasked);
}

int rounds_of_run(const ExecutionConfig& execution, int variants, std::span<const int> iterations) {
  return num_rounds(execution.rounds,
                    variants,
                    iterations,
                    execution.precision > 0 ? kMostRoundsToEnd : kMostRoundsUnasked);
}

std::vector<int> round_ends(int iterations, int variants, int rounds) {
  const std::int64_t turns = iterations / variants;
  DOVETAIL_CHECK(rounds >= 1 && turns >= rounds, "a round without iterations of each variant");
  const int left_over = iterations - static_cast<int>(turns) * variants;
  std::vector<int> ends;
  for (int round = 1; round <= rounds; ++round) {
    ends.push_back(left_over + variants * static_cast<int>(turns * round / rounds));
  }
  return ends;
}

std::vector<std::size_t> round_order(std::uint64_t seed, int round, std::size_t num_policies) {
  std::vector<std::size_t> order(num_policies);
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto draw = static_cast<std::uint64_t>(round / 2);
  for (std::size_t left = num_policies; left > 1; --left) {  // Fisher and Yates
    std::swap(order[left - 1], order[hash_of({seed, draw, left}) % left]);
  }
  if (round % 2 == 1) {
    std::reverse(order.begin(), order.end());
  }
  return order;
}

}  // namespace dovetail
