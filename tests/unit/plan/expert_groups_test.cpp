// The choice of experts against all choices that there are, and the text that files keep.
#include "framework/plan/expert_groups.hpp"

#include <algorithm>
#include <limits>
#include <random>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

/// One candidate beats another: a larger score, or a lower number.
bool beats(const std::vector<double>& scores, std::size_t a, std::size_t b) {
  return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
}

/// The numbers that fewer than `count` others beat, the best first.
std::vector<std::int64_t> unbeaten(const std::vector<double>& scores, int count) {
  std::vector<std::int64_t> result(static_cast<std::size_t>(count), -1);
  for (std::size_t one = 0; one < scores.size(); ++one) {
    std::size_t rank = 0;
    for (std::size_t other = 0; other < scores.size(); ++other) {
      rank += beats(scores, other, one) ? 1 : 0;
    }
    if (rank < result.size()) {
      result[rank] = static_cast<std::int64_t>(one);
    }
  }
  return result;
}

/// By the definition, in double.
std::vector<std::int64_t> oracle(const std::vector<float>& scores,
                                 const ExpertGroups& groups,
                                 int k) {
  const auto size = scores.size() / static_cast<std::size_t>(groups.num_groups);
  std::vector<double> of_groups;
  for (std::size_t first = 0; first < scores.size(); first += size) {
    std::vector<double> members(scores.begin() + static_cast<std::ptrdiff_t>(first),
                                scores.begin() + static_cast<std::ptrdiff_t>(first + size));
    std::sort(members.rbegin(), members.rend());
    of_groups.push_back(groups.score == GroupScore::best ? members[0] : members[0] + members[1]);
  }
  std::vector<double> allowed(scores.size(), -std::numeric_limits<double>::infinity());
  for (const std::int64_t group : unbeaten(of_groups, groups.num_chosen)) {
    for (std::size_t i = 0; i < size; ++i) {
      const auto expert = static_cast<std::size_t>(group) * size + i;
      allowed[expert] = scores[expert];
    }
  }
  return unbeaten(allowed, k);
}

TEST(ExpertGroups, TheBestOfTheBestGroups) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  const auto draw = [&](int least, int most) {
    return std::uniform_int_distribution<int>(least, most)(random);
  };
  int num_limited = 0;
  for (int round = 0; round < 2000; ++round) {
    ExpertGroups groups;
    groups.num_groups = draw(1, 6);
    groups.num_chosen = draw(1, groups.num_groups);
    groups.score = draw(0, 1) == 0 ? GroupScore::best : GroupScore::sum_of_two;
    const int size = draw(2, 5);
    std::vector<float> scores;
    for (int i = 0; i < groups.num_groups * size; ++i) {
      scores.push_back(static_cast<float>(draw(-6, 6)) / 4);  // many ties; sums are exact
    }
    const int k = draw(1, groups.num_chosen * size);
    const auto best = best_experts(scores, groups, k);
    ASSERT_EQ(best, oracle(scores, groups, k)) << to_text(groups);
    num_limited += best != oracle(scores, {}, k) ? 1 : 0;
  }
  EXPECT_GT(num_limited, 200) << "groups must matter";
}

TEST(ExpertGroups, TextsAreReadBack) {
  for (const ExpertGroups& groups :
       {ExpertGroups{8, 3}, ExpertGroups{8, 4, GroupScore::sum_of_two}, ExpertGroups{}}) {
    EXPECT_EQ(parse_expert_groups(to_text(groups)), groups);
  }
  for (const char* text :
       {"", "8", "8 4", "8 4 two", "8 9 best", "8 0 best", "0 0 best", "8 4 best x", " 8 4 best"}) {
    EXPECT_FALSE(parse_expert_groups(text).has_value()) << text;
  }
}

TEST(ExpertGroups, GroupsThatDoNotFitAreRefused) {
  const std::vector<float> scores(6, 1.0F);
  EXPECT_THROW(best_experts(scores, {4, 1}, 1), ContractError);
  EXPECT_THROW(best_experts(scores, {3, 1}, 3), ContractError);
  EXPECT_THROW(best_experts(scores, {6, 2, GroupScore::sum_of_two}, 1), ContractError);
}

}  // namespace
}  // namespace dovetail
