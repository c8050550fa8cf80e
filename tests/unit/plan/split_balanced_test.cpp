// The split "balanced" against all cuts that there are.
#include <algorithm>
#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/plan/split.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

using Boundaries = std::vector<std::int64_t>;

/// Key costs of the tests are multiples of 1/8, so all sums are exact.
double slow_cost(const Batch& batch,
                 const KeyCosts& key_cost,
                 std::int64_t first,
                 std::int64_t last) {
  double cost = 0;
  std::int64_t token = 0;
  for (const auto& request : batch.requests) {
    for (std::int64_t q = 0; q < request.query_length; ++q, ++token) {
      if (token >= first && token < last) {
        cost += 1 + (request.query_length == 1 ? key_cost.of_only : key_cost.of_several) *
                        static_cast<double>(request.context_length + q + 1);
      }
    }
  }
  return cost;
}

/// Every list of boundaries 0 <= b1 <= b2 <= ... <= tokens.
std::vector<Boundaries> all_cuts(std::int64_t tokens, int parts) {
  if (parts == 1) {
    return {{0, tokens}};
  }
  std::vector<Boundaries> all;
  for (const auto& cut : all_cuts(tokens, parts - 1)) {
    for (std::int64_t b = cut[cut.size() - 2]; b <= tokens; ++b) {
      auto longer = cut;
      longer.insert(longer.end() - 1, b);
      all.push_back(longer);
    }
  }
  return all;
}

double largest(const Batch& batch, const KeyCosts& key_cost, const Boundaries& cut) {
  double most = 0;
  for (std::size_t i = 1; i < cut.size(); ++i) {
    most = std::max(most, slow_cost(batch, key_cost, cut[i - 1], cut[i]));
  }
  return most;
}

/// Of the cuts with the least largest part, part by part the nearest to an equal share.
Boundaries best_cut(const Batch& batch, const KeyCosts& key_cost, int parts) {
  auto cuts = all_cuts(batch.num_tokens(), parts);
  double least = INFINITY;
  for (const auto& cut : cuts) {
    least = std::min(least, largest(batch, key_cost, cut));
  }
  std::erase_if(cuts, [&](const auto& cut) { return largest(batch, key_cost, cut) > least; });
  for (int part = 1; part < parts; ++part) {
    const auto p = static_cast<std::size_t>(part);
    const auto key = [&](const Boundaries& cut) {
      const double share =
          slow_cost(batch, key_cost, cut[p - 1], batch.num_tokens()) / (parts - part + 1);
      return std::pair(std::abs(slow_cost(batch, key_cost, cut[p - 1], cut[p]) - share), cut[p]);
    };
    const auto best = *std::min_element(
        cuts.begin(), cuts.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
    std::erase_if(cuts, [&](const auto& cut) { return cut[p] != best[p]; });
  }
  return cuts.front();
}

Batch random_batch(std::mt19937_64& random, bool decode) {
  Batch batch;
  std::int64_t left = 12;
  while (left > 0 && random() % 6 != 0) {
    const auto length =
        decode ? 1 : std::min<std::int64_t>(left, static_cast<std::int64_t>(random() % 8));
    batch.requests.push_back({static_cast<std::int64_t>(batch.requests.size()),
                              length,
                              static_cast<std::int64_t>(random() % 3 == 0 ? 0 : random() % 60)});
    left -= std::max<std::int64_t>(length, 1);
  }
  return batch;
}

TEST(SplitBalanced, IsTheBestOfAllCuts) {
  std::mt19937_64 random(testing::fresh_seed());
  for (int round = 0; round < 600; ++round) {
    const Batch batch = random_batch(random, round % 2 == 0);
    const auto cost = [&] {
      return static_cast<double>(random() % 4 == 0 ? 0 : random() % 24) / 8;
    };
    const KeyCosts key_cost = {.of_several = cost(), .of_only = cost()};
    const int parts = 1 + static_cast<int>(random() % 4);
    const auto boundaries = balanced_boundaries(batch, key_cost, parts);
    ASSERT_EQ(boundaries, best_cut(batch, key_cost, parts)) << "round " << round;
    const auto slices =
        split_batch(batch, {.kind = "balanced", .sizes = {}, .key_cost = key_cost}, parts);
    ASSERT_EQ(slices.size(), static_cast<std::size_t>(parts));
    for (std::size_t u = 0; u < slices.size(); ++u) {
      EXPECT_EQ(slices[u].token_start, boundaries[u]);
      EXPECT_EQ(slices[u].num_tokens, boundaries[u + 1] - boundaries[u]);
      EXPECT_EQ(token_range_cost(batch, key_cost, slices[u].token_start, slices[u].num_tokens),
                slow_cost(batch, key_cost, boundaries[u], boundaries[u + 1]));
    }
  }
}

TEST(SplitBalanced, GivesLongContextsFewerTokens) {
  const auto sizes = [](const Batch& batch, double key_cost) {
    const auto b = balanced_boundaries(batch, {key_cost, key_cost}, 2);
    return std::pair(b[1], b[2] - b[1]);
  };
  const Batch one_long = {{{0, 100, 0}}};
  EXPECT_EQ(sizes(one_long, 0), std::pair(std::int64_t{50}, std::int64_t{50}));
  EXPECT_GT(sizes(one_long, 0.1).first, 60) << "later tokens attend to more keys";
  const Batch decode = {{{0, 1, 3000}, {1, 1, 1000}, {2, 1, 1000}, {3, 1, 1000}}};
  EXPECT_EQ(sizes(decode, 0.01), std::pair(std::int64_t{1}, std::int64_t{3}));
  EXPECT_EQ(sizes(decode, 0), std::pair(std::int64_t{2}, std::int64_t{2}));
}

TEST(SplitBalanced, TakesEmptyAndOneTokenBatchesAndLargeOnes) {
  for (int n = 1; n <= 8; ++n) {
    EXPECT_EQ(balanced_boundaries({}, {0.5, 0.25}, n),
              Boundaries(static_cast<std::size_t>(n) + 1, 0));
    const auto one = balanced_boundaries({{{0, 0, 5}, {1, 1, 7}, {2, 0, 0}}}, {0.5, 0.25}, n);
    EXPECT_EQ(one.front(), 0);
    EXPECT_EQ(one.back(), 1);
    EXPECT_TRUE(std::is_sorted(one.begin(), one.end()));
  }
  const Batch large = {{{0, std::int64_t{1} << 30U, std::int64_t{1} << 30U}}};
  const auto half = balanced_boundaries(large, {1e-9, 1}, 2);
  const double a = token_range_cost(large, {1e-9, 1}, 0, half[1]);
  const double b = token_range_cost(large, {1e-9, 1}, half[1], half[2] - half[1]);
  EXPECT_NEAR(a / b, 1.0, 1e-6);
}

TEST(SplitBalanced, RefusesBadInput) {
  EXPECT_THROW(balanced_boundaries({{{0, 4, 0}}}, {-0.1, 0}, 2), ContractError);
  EXPECT_THROW(balanced_boundaries({{{0, 4, 0}}}, {0, -0.1}, 2), ContractError);
  EXPECT_THROW(balanced_boundaries({{{0, 4, 0}}}, {NAN, 0}, 2), ContractError);
  EXPECT_THROW(balanced_boundaries({{{0, 4, -1}}}, {}, 2), ContractError);
  EXPECT_THROW(balanced_boundaries({{{0, -4, 1}}}, {}, 2), ContractError);
  EXPECT_THROW(balanced_boundaries({{{0, std::int64_t{1} << 31U, 1}}}, {}, 2), ContractError);
}

TEST(SplitRule, AKeyCostsAnOnlyTokenWhatTakesLonger) {
  WorkCosts costs = {.flops_per_token = 1000,
                     .flops_per_key = 20,
                     .flops_per_only_key = 30,
                     .bytes_per_only_key = 4,
                     .flops_per_byte = 5};
  EXPECT_EQ(split_rule({}, costs).key_cost, (KeyCosts{0.02, 0.03}));
  costs.flops_per_byte = 100;
  EXPECT_EQ(split_rule({}, costs).key_cost, (KeyCosts{0.02, 0.4}));
  costs.flops_per_token = 0;
  EXPECT_EQ(split_rule({}, costs).key_cost, KeyCosts{});
}

}  // namespace
}  // namespace dovetail
