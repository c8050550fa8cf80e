// Balanced and zipf expert ids: exact counts, exact probabilities, the same on every grid.
#include "framework/plan/synthetic_routing.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

/// One rank, one step: `num_tokens` requests of one token.
StepWorkload tokens(std::int64_t num_tokens) {
  WorkloadConfig config;
  config.requests = {UniformRequests{.count = num_tokens, .length = 1}};
  return make_workload(config, nullptr, 10, 1, Rank(0)).steps.front();
}

/// The smallest prime factors of `value`, multiplied up: 1, 2, 4, 12 for 12.
std::vector<int> even_groups(int value) {
  std::vector<int> groups = {1};
  for (int factor = 2; value > 1; ++factor) {
    for (; value % factor == 0; value /= factor) {
      groups.push_back(groups.back() * factor);
    }
  }
  return groups;
}

void expect_within_one(const std::vector<std::int64_t>& counts, const std::string& what) {
  const auto [least, most] = std::minmax_element(counts.begin(), counts.end());
  ASSERT_LE(*most - *least, 1) << what;
}

TEST(SyntheticRouting, BalancedIsEvenAfterEveryToken) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (const int num_experts : {1, 2, 6, 7, 8, 12, 60, 128}) {
    for (int i = 0; i < 6; ++i) {
      const int top_k = std::uniform_int_distribution<int>(
          1, std::min(num_experts, i < 3 ? 8 : num_experts))(random);
      constexpr std::int64_t num_tokens = 300;
      const auto ids = synthetic_expert_ids(
          BalancedRouting{}, random(), 2, 0, num_experts, top_k, tokens(num_tokens));
      ASSERT_EQ(ids.size(), static_cast<std::size_t>(2 * num_tokens * top_k));
      for (int layer = 0; layer < 2; ++layer) {
        std::map<int, std::vector<std::int64_t>> counts;  // by number of equal blocks
        for (const int groups : even_groups(num_experts)) {
          counts[groups].assign(static_cast<std::size_t>(groups), 0);
        }
        for (std::int64_t token = 0; token < num_tokens; ++token) {
          std::set<std::int64_t> distinct;
          for (int choice = 0; choice < top_k; ++choice) {
            const auto id =
                ids[static_cast<std::size_t>((layer * num_tokens + token) * top_k + choice)];
            ASSERT_GE(id, 0);
            ASSERT_LT(id, num_experts);
            distinct.insert(id);
            for (auto& [groups, count] : counts) {
              ++count[static_cast<std::size_t>(id / (num_experts / groups))];
            }
          }
          ASSERT_EQ(std::ssize(distinct), top_k);
          for (const auto& [groups, count] : counts) {
            expect_within_one(count,
                              std::to_string(num_experts) + " experts, top " +
                                  std::to_string(top_k) + ", " + std::to_string(groups) +
                                  " ranks, token " + std::to_string(token));
          }
        }
      }
    }
  }
}

std::set<std::int64_t> groups_of(const std::vector<std::int64_t>& ids,
                                 std::size_t first,
                                 int top_k,
                                 int group_size) {
  std::set<std::int64_t> groups;
  for (std::size_t i = first; i < first + static_cast<std::size_t>(top_k); ++i) {
    groups.insert(ids[i] / group_size);
  }
  return groups;
}

struct GroupCase {
  int num_experts;
  int top_k;
  ExpertGroups groups;
};

const std::vector<GroupCase> kGroupCases = {{160, 6, {8, 3}},
                                            {256, 8, {8, 4, GroupScore::sum_of_two}},
                                            {12, 5, {4, 2}},
                                            {15, 3, {5, 2}},
                                            {24, 6, {4, 1}},
                                            {18, 7, {6, 5}}};

TEST(SyntheticRouting, GroupsLimitEachToken) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  for (const RoutingConfig& routing : {RoutingConfig(BalancedRouting{}),
                                       RoutingConfig(ZipfRouting{0.0}),
                                       RoutingConfig(ZipfRouting{1.2})}) {
    for (const auto& [num_experts, top_k, groups] : kGroupCases) {
      const auto ids =
          synthetic_expert_ids(routing, seed, 2, 0, num_experts, top_k, tokens(200), groups);
      const auto unlimited =
          synthetic_expert_ids(routing, seed, 2, 0, num_experts, top_k, tokens(200));
      bool breaks_limit = false;
      for (std::size_t first = 0; first < ids.size(); first += static_cast<std::size_t>(top_k)) {
        const int size = num_experts / groups.num_groups;
        ASSERT_LE(std::ssize(groups_of(ids, first, top_k, size)), groups.num_chosen);
        ASSERT_EQ(std::ssize(groups_of(ids, first, top_k, 1)), top_k) << "distinct";
        breaks_limit = breaks_limit ||
                       std::ssize(groups_of(unlimited, first, top_k, size)) > groups.num_chosen;
      }
      EXPECT_TRUE(breaks_limit) << "the limit changes nothing";
    }
  }
}

TEST(SyntheticRouting, BalancedGroupsAreEvenAfterEachRound) {
  for (const auto& [num_experts, top_k, groups] : kGroupCases) {
    const int size = num_experts / groups.num_groups;
    const std::int64_t period = groups.num_groups * (size / std::gcd(size, top_k));
    const auto ids = synthetic_expert_ids(
        BalancedRouting{}, 3, 1, 0, num_experts, top_k, tokens(3 * period), groups);
    std::vector<std::int64_t> of_groups(static_cast<std::size_t>(groups.num_groups));
    std::vector<std::int64_t> of_experts(static_cast<std::size_t>(num_experts));
    for (std::int64_t token = 0; token < 3 * period; ++token) {
      for (int choice = 0; choice < top_k; ++choice) {
        const auto id = ids[static_cast<std::size_t>(token * top_k + choice)];
        ++of_groups[static_cast<std::size_t>(id / size)];
        ++of_experts[static_cast<std::size_t>(id)];
      }
      if ((token + 1) % groups.num_groups == 0) {
        const auto wanted = (token + 1) / groups.num_groups * top_k;
        EXPECT_EQ(of_groups, std::vector<std::int64_t>(of_groups.size(), wanted)) << token;
      }
      if ((token + 1) % period == 0) {
        const auto wanted = (token + 1) * top_k / num_experts;
        EXPECT_EQ(of_experts, std::vector<std::int64_t>(of_experts.size(), wanted)) << token;
      }
    }
  }
}

/// The groups of a token are those whose most eager expert would be drawn first of all groups.
TEST(SyntheticRouting, ZipfDrawsGroupsByTheirFirstExperts) {
  const ExpertGroups groups = {4, 2};
  const auto limited = synthetic_expert_ids(ZipfRouting{0.7}, 9, 1, 0, 16, 3, tokens(300), groups);
  const auto order = synthetic_expert_ids(ZipfRouting{0.7}, 9, 1, 0, 16, 16, tokens(300));
  for (std::size_t token = 0; token < 300; ++token) {
    std::vector<std::int64_t> wanted;
    std::set<std::int64_t> chosen;
    for (std::size_t i = 0; i < 16 && wanted.size() < 3; ++i) {
      const std::int64_t id = order[token * 16 + i];
      if (chosen.size() < 2) {
        chosen.insert(id / 4);
      }
      if (chosen.contains(id / 4)) {
        wanted.push_back(id);
      }
    }
    const auto first = limited.begin() + static_cast<std::ptrdiff_t>(3 * token);
    ASSERT_EQ(std::vector<std::int64_t>(first, first + 3), wanted);
  }
}

/// An order that is drawn anew: neither all layers nor all periods may send a token alike.
TEST(SyntheticRouting, BalancedVaries) {
  const auto ids = synthetic_expert_ids(BalancedRouting{}, 1, 2, 0, 64, 4, tokens(32));
  const std::vector<std::int64_t> first(ids.begin(), ids.begin() + 64);
  const std::vector<std::int64_t> second(ids.begin() + 64, ids.begin() + 128);
  const std::vector<std::int64_t> layer(ids.begin() + 128, ids.begin() + 192);
  EXPECT_NE(first, second);
  EXPECT_NE(first, layer);
  EXPECT_NE(synthetic_expert_ids(BalancedRouting{}, 2, 2, 0, 64, 4, tokens(32)), ids);
}

using Routes = std::map<std::tuple<std::int64_t, std::int64_t, int, int>, std::int64_t>;

/// (request, position, layer, choice) to expert, over all ranks, steps and contexts.
Routes all_routes(const RoutingConfig& routing, WorkloadConfig config, int world_size) {
  std::get<UniformRequests>(config.requests[0]).count /= world_size;
  std::get<UniformRequests>(config.requests[1]).count /= world_size;
  Routes routes;
  for (int rank = 0; rank < world_size; ++rank) {
    const auto workload = make_workload(config, nullptr, 10, world_size, Rank(rank));
    std::vector<StepWorkload> steps = workload.context_steps;
    steps.insert(steps.end(), workload.steps.begin(), workload.steps.end());
    for (const StepWorkload& step : steps) {
      const auto ids = synthetic_expert_ids(routing, 5, 3, 1, 12, 5, step);
      std::size_t next = 0;
      for (int layer = 0; layer < 3; ++layer) {
        for (std::size_t token = 0; token < step.positions.size(); ++token) {
          for (int choice = 0; choice < 5; ++choice) {
            routes[{step.request_ids[token], step.positions[token], layer, choice}] = ids[next++];
          }
        }
      }
      EXPECT_EQ(next, ids.size());
    }
  }
  return routes;
}

TEST(SyntheticRouting, TheSameOnEveryGridAndStage) {
  WorkloadConfig config;
  config.phase = WorkPhase::mixed;
  config.steps = 2;
  config.requests = {UniformRequests{4, 1, 3000}, UniformRequests{4, 9, 2}};
  for (const RoutingConfig& routing :
       {RoutingConfig(BalancedRouting{}), RoutingConfig(ZipfRouting{1.1})}) {
    const Routes one = all_routes(routing, config, 1);
    EXPECT_EQ(one.size(), static_cast<std::size_t>((4 * 3002 + 4 * 20) * 3 * 5));
    EXPECT_EQ(all_routes(routing, config, 2), one);
    EXPECT_EQ(all_routes(routing, config, 4), one);

    const auto step = tokens(20);
    const auto whole = synthetic_expert_ids(routing, 5, 6, 0, 12, 5, step);
    const auto stage = synthetic_expert_ids(routing, 5, 2, 4, 12, 5, step);
    EXPECT_EQ(stage, std::vector<std::int64_t>(whole.begin() + 4 * 20 * 5, whole.end()));
  }
}

/// Over all ordered pairs of a token's two experts, against the exact probabilities of draws
/// without replacement. The order of popularity is the one seen.
double chi_square_of_pairs(const std::vector<std::int64_t>& ids, int num_experts, double exponent) {
  const auto experts = static_cast<std::size_t>(num_experts);
  std::vector<std::int64_t> first(experts, 0);
  std::map<std::pair<std::size_t, std::size_t>, double> seen;
  for (std::size_t i = 0; i < ids.size(); i += 2) {
    ++first[static_cast<std::size_t>(ids[i])];
    ++seen[{static_cast<std::size_t>(ids[i]), static_cast<std::size_t>(ids[i + 1])}];
  }
  std::vector<std::size_t> order(experts);
  std::iota(order.begin(), order.end(), 0U);
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return first[a] > first[b]; });
  std::vector<double> weight(experts);
  double sum = 0;
  for (std::size_t e = 0; e < experts; ++e) {
    weight[order[e]] = std::pow(static_cast<double>(e + 1), -exponent);
    sum += weight[order[e]];
  }
  const double samples = static_cast<double>(ids.size()) / 2;
  double chi_square = 0;
  for (std::size_t a = 0; a < experts; ++a) {
    for (std::size_t b = 0; b < experts; ++b) {
      if (a != b) {
        const double expected = samples * weight[a] / sum * weight[b] / (sum - weight[a]);
        const double difference = seen[{a, b}] - expected;
        chi_square += difference * difference / expected;
      }
    }
  }
  return chi_square;
}

TEST(SyntheticRouting, ZipfHasItsExactProbabilities) {
  constexpr int num_experts = 6;
  constexpr double freedom = num_experts * (num_experts - 1) - 1;
  const double bound = freedom + 6 * std::sqrt(2 * freedom);
  const auto step = tokens(40'000);
  for (const double exponent : {0.5, 1.2, 2.0}) {
    const auto ids = synthetic_expert_ids(ZipfRouting{exponent}, 11, 1, 3, num_experts, 2, step);
    EXPECT_LT(chi_square_of_pairs(ids, num_experts, exponent), bound) << exponent;
    EXPECT_GT(chi_square_of_pairs(ids, num_experts, exponent + 0.2), 3 * bound) << exponent;
  }
  const auto even = synthetic_expert_ids(ZipfRouting{0.0}, 11, 1, 3, num_experts, 2, step);
  EXPECT_LT(chi_square_of_pairs(even, num_experts, 0.0), bound);
}

/// Neighbours must not depend on each other: the first choices of a token and the next one.
TEST(SyntheticRouting, ZipfTokensAreIndependent) {
  const auto ids = synthetic_expert_ids(ZipfRouting{0.0}, 4, 1, 0, 6, 1, tokens(40'000));
  std::map<std::pair<std::int64_t, std::int64_t>, double> pairs;
  for (std::size_t i = 0; i < ids.size(); i += 2) {
    ++pairs[{ids[i], ids[i + 1]}];
  }
  double chi_square = 0;
  const double expected = static_cast<double>(ids.size()) / 2 / 36;
  for (const auto& [pair, count] : pairs) {
    chi_square += (count - expected) * (count - expected) / expected;
  }
  EXPECT_LT(chi_square, 35 + 6 * std::sqrt(70.0));
}

TEST(SyntheticRouting, ZipfIsDistinctAtEveryExponent) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  for (const double exponent : {0.0, 1.0, 20.0, 100.0}) {
    for (const int top_k : {1, 3, 64}) {
      const auto ids =
          synthetic_expert_ids(ZipfRouting{exponent}, seed, 2, 0, 64, top_k, tokens(50));
      std::vector<std::set<std::int64_t>> of_token(100);
      for (std::size_t i = 0; i < ids.size(); ++i) {
        ASSERT_GE(ids[i], 0);
        ASSERT_LT(ids[i], 64);
        of_token[i / static_cast<std::size_t>(top_k)].insert(ids[i]);
      }
      for (const auto& distinct : of_token) {
        ASSERT_EQ(std::ssize(distinct), top_k);
      }
    }
  }
  // At a steep exponent all tokens of a layer take the same experts; layers differ.
  const auto steep = synthetic_expert_ids(ZipfRouting{100.0}, seed, 8, 0, 64, 1, tokens(10));
  std::set<std::int64_t> favourites;
  for (std::size_t layer = 0; layer < 8; ++layer) {
    for (std::size_t token = 0; token < 10; ++token) {
      EXPECT_EQ(steep[layer * 10 + token], steep[layer * 10]);
    }
    favourites.insert(steep[layer * 10]);
  }
  EXPECT_GT(favourites.size(), 1U);
}

TEST(SyntheticRouting, OnlyBalancedAndZipfAreSynthetic) {
  EXPECT_TRUE(is_synthetic(BalancedRouting{}));
  EXPECT_TRUE(is_synthetic(ZipfRouting{1.0}));
  EXPECT_FALSE(is_synthetic(NaturalRouting{}));
  EXPECT_FALSE(is_synthetic(ReplayRouting{"a"}));
  EXPECT_THROW(synthetic_expert_ids(NaturalRouting{}, 0, 1, 0, 4, 1, tokens(1)), ContractError);
  EXPECT_THROW(synthetic_expert_ids(BalancedRouting{}, 0, 1, 0, 4, 5, tokens(1)), ContractError);
  for (const RoutingConfig& routing :
       {RoutingConfig(BalancedRouting{}), RoutingConfig(ZipfRouting{1.0})}) {
    EXPECT_THROW(synthetic_expert_ids(routing, 0, 1, 0, 8, 3, tokens(1), {4, 1}), ContractError);
    EXPECT_THROW(synthetic_expert_ids(routing, 0, 1, 0, 9, 2, tokens(1), {4, 1}), ContractError);
  }
}

}  // namespace
}  // namespace dovetail
