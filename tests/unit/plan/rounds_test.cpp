#include "framework/plan/rounds.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

TEST(Rounds, ShortRunsHaveOneAndOthersAtMostFiveUnlessAskedFor) {
  const auto count = [](int asked, int variants, std::vector<int> iterations) {
    return num_rounds(asked, variants, iterations);
  };
  EXPECT_EQ(count(0, 1, {10}), 5);
  EXPECT_EQ(count(0, 1, {3}), 1);
  EXPECT_EQ(count(0, 1, {4}), 2);
  EXPECT_EQ(count(0, 1, {100, 7}), 3);
  EXPECT_EQ(count(0, 3, {10}), 1);
  EXPECT_EQ(count(0, 3, {12}), 2);
  EXPECT_EQ(count(7, 1, {10}), 7);
  EXPECT_EQ(count(1, 1, {1000}), 1);
}

TEST(Rounds, ARunThatMayEndEarlyHasMore) {
  EXPECT_EQ(num_rounds(0, 1, std::vector{200}, kMostRoundsToEnd), 20);
  EXPECT_EQ(num_rounds(0, 1, std::vector{20}, kMostRoundsToEnd), 10);
  EXPECT_EQ(num_rounds(7, 1, std::vector{200}, kMostRoundsToEnd), 7);
}

TEST(Rounds, OfARunAreAsItsKeysSay) {
  ExecutionConfig execution;
  const auto count = [&] { return rounds_of_run(execution, 1, std::vector{100, 200}); };
  EXPECT_EQ(count(), 5);
  execution.precision = 0.01;
  EXPECT_EQ(count(), 20);
  execution.rounds = 8;
  EXPECT_EQ(count(), 8);
}

TEST(Rounds, EndsCoverAllIterationsInWholeTurnsOfTheVariants) {
  EXPECT_EQ(round_ends(10, 1, 5), (std::vector{2, 4, 6, 8, 10}));
  EXPECT_EQ(round_ends(10, 1, 3), (std::vector{3, 6, 10}));
  EXPECT_EQ(round_ends(7, 3, 2), (std::vector{4, 7}));
  EXPECT_THROW(round_ends(7, 3, 3), ContractError);
  for (int iterations = 1; iterations < 40; ++iterations) {
    for (int variants = 1; variants <= iterations; ++variants) {
      for (int rounds = 1; rounds <= iterations / variants; ++rounds) {
        const auto ends = round_ends(iterations, variants, rounds);
        ASSERT_EQ(ends.size(), static_cast<std::size_t>(rounds));
        EXPECT_EQ(ends.back(), iterations);
        EXPECT_GE(ends.front(), variants);
        for (std::size_t i = 1; i < ends.size(); ++i) {
          EXPECT_GE(ends[i] - ends[i - 1], variants);
          EXPECT_EQ((ends[i] - ends[i - 1]) % variants, 0);
        }
      }
    }
  }
}

TEST(Rounds, OrdersAreDrawnFromTheSeedAndEverySecondRunsBackwards) {
  std::set<std::vector<std::size_t>> seen;
  for (int round = 0; round < 400; round += 2) {
    const auto order = round_order(17, round, 4);
    EXPECT_EQ(order, round_order(17, round, 4));
    auto backwards = round_order(17, round + 1, 4);
    std::reverse(backwards.begin(), backwards.end());
    EXPECT_EQ(order, backwards);
    seen.insert(order);
  }
  EXPECT_EQ(seen.size(), 24U);  // 200 draws of 24 orders: one is missing once in 200 seeds
  EXPECT_EQ(round_order(17, 0, 1), std::vector<std::size_t>{0});
  EXPECT_NE(round_order(1, 0, 12), round_order(2, 0, 12));
}

/// Each policy is equally often in each place.
TEST(Rounds, OrdersFavourNobody) {
  constexpr int kDraws = 24'000;
  std::map<std::pair<std::size_t, std::size_t>, int> counts;
  for (int draw = 0; draw < kDraws; ++draw) {
    const auto order = round_order(3, 2 * draw, 3);
    for (std::size_t place = 0; place < order.size(); ++place) {
      ++counts[{place, order[place]}];
    }
  }
  ASSERT_EQ(counts.size(), 9U);
  for (const auto& [what, count] : counts) {
    EXPECT_NEAR(count, kDraws / 3, 400);  // 5.5 standard deviations
  }
}

}  // namespace
}  // namespace dovetail
