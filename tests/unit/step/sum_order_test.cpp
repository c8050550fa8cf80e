// The sum over the tree of experts against a recursion over halves; the same bits on every grid.
#include "framework/comm/exchange/sum_order.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <map>
#include <random>

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <gtest/gtest.h>

#include "framework/comm/exchange/expert_tree.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/tree_sum.hpp"

namespace dovetail {
namespace {

using test::tree_sum;
using testing::input_error_of;

template <class T>
struct Number {
  using Stored = T;

  static T narrow(float value) { return static_cast<T>(value); }

  static float widen(T value) { return static_cast<float>(value); }

  static float rounded(float value) { return widen(narrow(value)); }
};

/// Of random experts, with values of very different sizes: other orders give other bits.
std::map<int, float> random_terms(std::mt19937& random, int num_experts, int count) {
  std::map<int, float> terms;
  while (static_cast<int>(terms.size()) < count) {
    const float size = std::exp2(static_cast<float>(random() % 12));
    terms[static_cast<int>(random() % static_cast<unsigned>(num_experts))] =
        size * std::uniform_real_distribution<float>(-1, 1)(random);
  }
  return terms;
}

/// As ranks do it: those of each rank, then the ranks.
template <class T>
T sum_on_ranks(const std::map<int, float>& terms, int num_experts, int ranks) {
  TreeSum<Number<T>, 1> whole;
  int rank_before = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    TreeSum<Number<T>, 1> part;
    int before = -1;
    for (const auto& [expert, term] : terms) {
      if (expert / (num_experts / ranks) == rank) {
        part.add(before < 0 ? 0 : meeting_level_of_experts(before, expert, num_experts), {term});
        before = expert;
      }
    }
    if (before >= 0) {
      T value[1];
      part.finish(value);
      whole.add(meeting_level(rank_before, rank), {Number<T>::widen(value[0])});
      rank_before = rank;
    }
  }
  T value[1];
  whole.finish(value);
  return value[0];
}

template <class T>
class ExpertTree : public ::testing::Test {};

using Types = ::testing::Types<float, c10::BFloat16, c10::Half>;
TYPED_TEST_SUITE(ExpertTree, Types);

TYPED_TEST(ExpertTree, EveryGridHasTheBitsOfTheRecursion) {
  const auto seed = std::random_device()();
  std::mt19937 random(seed);
  for (const int num_experts : {1, 2, 6, 8, 60, 128, 160, 256, 384, 1024}) {
    const int blocks = num_tree_blocks(num_experts);
    for (int i = 0; i < 60; ++i) {
      const auto terms =
          random_terms(random, num_experts, static_cast<int>(random() % 9) % (num_experts + 1));
      const auto expected =
          tree_sum(terms, 0, blocks, num_experts / blocks, Number<TypeParam>::rounded);
      for (int ranks = 1; ranks <= blocks; ranks *= 2) {
        const float sum =
            Number<TypeParam>::widen(sum_on_ranks<TypeParam>(terms, num_experts, ranks));
        EXPECT_EQ(std::bit_cast<std::uint32_t>(sum),
                  std::bit_cast<std::uint32_t>(expected.value_or(0.0F)))
            << num_experts << " experts, " << terms.size() << " terms, " << ranks << " ranks, seed "
            << seed;
      }
    }
  }
}

/// The negative twin: in ascending order of the experts, rounded once on each rank, grids differ.
TYPED_TEST(ExpertTree, PlainSumsOfRanksDiffer) {
  std::mt19937 random(7);
  int differences = 0;
  for (int i = 0; i < 100; ++i) {
    const auto terms = random_terms(random, 8, 6);
    const auto plain = [&](int ranks) {
      float whole = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        float part = 0;
        for (const auto& [expert, term] : terms) {
          part += expert / (8 / ranks) == rank ? term : 0.0F;
        }
        whole += Number<TypeParam>::rounded(part);
      }
      return Number<TypeParam>::rounded(whole);
    };
    differences += plain(1) != plain(4) ? 1 : 0;
  }
  EXPECT_GT(differences, 0);
}

TEST(SumOrder, FollowsFromNumericsAndDevice) {
  for (const bool on_gpu : {false, true}) {
    EXPECT_EQ(sum_order(Numerics::fast, on_gpu), SumOrder::by_rank);
  }
  EXPECT_EQ(sum_order(Numerics::batch_invariant, false), SumOrder::by_choice);
  EXPECT_EQ(sum_order(Numerics::batch_invariant, true), SumOrder::by_expert);
}

TEST(SumOrder, RanksMustHoldWholeSubtrees) {
  EXPECT_EQ(num_tree_blocks(128), 128);
  EXPECT_EQ(num_tree_blocks(160), 32);
  EXPECT_EQ(num_tree_blocks(1024), 256);
  EXPECT_EQ(num_tree_blocks(15), 1);
  for (const int ranks : {1, 2, 4, 8, 16, 32}) {
    EXPECT_NO_THROW(check_grid(SumOrder::by_expert, 160, ranks));
  }
  for (const auto order : {SumOrder::by_rank, SumOrder::by_choice}) {
    EXPECT_NO_THROW(check_grid(order, 160, 5));
  }
  EXPECT_EQ(input_error_of([] { check_grid(SumOrder::by_expert, 160, 5); }),
            "numerics batch_invariant on GPUs with expert_parallel 5 and 160 experts; allowed: a "
            "power of two up to 32");
}

}  // namespace
}  // namespace dovetail
