// Near ties of choices by groups and by biased scores: what rounding can do passes, ten times as
// much does not, and an expert that went with its group needs to be near to nobody.
#include "framework/compare/near_tie.hpp"

#include <cmath>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "framework/compare/routing_diff.hpp"

namespace dovetail {
namespace {

using detail::are_consistent;
using detail::Gap;
using detail::gap_between;
using detail::RouterRow;

constexpr RowBounds kBounds = {.row = 1e-4, .element = 5e-4};

struct Token {
  std::vector<float> logits;
  std::vector<float> scores;  // empty: logits decide

  RouterRow row() const { return {.logits = logits, .scores = scores}; }
};

Token with_scores(std::vector<float> logits, const std::vector<float>& bias) {
  Token token = {.logits = std::move(logits), .scores = {}};
  for (std::size_t i = 0; i < bias.size(); ++i) {
    token.scores.push_back(1 / (1 + std::exp(-token.logits[i])) + bias[i]);
  }
  return token;
}

std::vector<std::int32_t> choice_of(const Token& token, const ExpertGroups& groups, int k) {
  const auto best = best_experts(token.row().deciding(), groups, k);
  return {best.begin(), best.end()};
}

Gap gap_of(const Token& policy,
           const Token& baseline,
           const ExpertGroups& groups,
           int k,
           const RowBounds& bounds = kBounds) {
  const auto own = choice_of(policy, groups, k);
  const auto other = choice_of(baseline, groups, k);
  return gap_between({own, policy.row()}, {other, baseline.row()}, groups, bounds);
}

TEST(NearTie, AnExpertThatWentWithItsGroupNeedsNoTie) {
  // Groups {0, 1} and {2, 3} are a tie; experts 1 and 3 are far from each other.
  const ExpertGroups groups = {2, 1};
  const Token baseline = {.logits = {2.0F, 1.0F, 1.9999F, -3.0F}, .scores = {}};
  const Token policy = {.logits = {1.9999F, 1.0F, 2.0F, -3.0F}, .scores = {}};
  EXPECT_EQ(choice_of(policy, groups, 2), (std::vector<std::int32_t>{2, 3}));
  const Gap gap = gap_of(policy, baseline, groups, 2);
  EXPECT_LT(gap.share, 1);
  EXPECT_GT(gap.share, 0);
  EXPECT_EQ(gap.what, "logits of groups");
  // The same with groups that are no tie.
  const Token far = {.logits = {1.9F, 1.0F, 2.0F, -3.0F}, .scores = {}};
  EXPECT_GT(gap_of(far, baseline, groups, 2).share, 10);
}

TEST(NearTie, ExpertsOfTheSameGroupsMustBeNear) {
  const ExpertGroups groups = {3, 2};
  const Token baseline = {.logits = {2.0F, 1.0F, 1.5F, 0.9999F, -1.0F, -2.0F}, .scores = {}};
  const Token near = {.logits = {2.0F, 0.9999F, 1.5F, 1.0F, -1.0F, -2.0F}, .scores = {}};
  const Token far = {.logits = {2.0F, 0.9F, 1.5F, 1.0F, -1.0F, -2.0F}, .scores = {}};
  EXPECT_LT(gap_of(near, baseline, groups, 3).share, 1);
  EXPECT_GT(gap_of(far, baseline, groups, 3).share, 10);
  EXPECT_EQ(gap_of(far, baseline, groups, 3).what, "logits");
}

TEST(NearTie, ScoresMoveAsTheirSigmoidsDo) {
  // Logits of 8 move a sigmoid by next to nothing: a gap that would be a tie at 0 is none there.
  const std::vector<float> bias = {0.0F, 0.5F, -1.0F};
  const float steep = 1 / (1 + std::exp(-8.0F));
  const auto at_logit = [&](float logit, float gap) {
    const float other = std::log((1 / (1 + std::exp(-logit)) - 0.5F + gap) /
                                 (1.5F - 1 / (1 + std::exp(-logit)) - gap));
    return with_scores({logit, other, 1.0F}, bias);
  };
  const float small = 3e-5F;
  ASSERT_GT(steep, 0.999F);
  const Gap flat = gap_of(at_logit(8, small), at_logit(8, -small), {}, 1);
  EXPECT_EQ(flat.what, "scores");
  EXPECT_LT(flat.share, 1) << "the other expert's sigmoid is steep";
  const Token both_flat = with_scores({8.0F, 8.0F, 1.0F}, {0.0F, small, -1.0F});
  const Token both_flat_other = with_scores({8.0F, 8.0F, 1.0F}, {small, 0.0F, -1.0F});
  EXPECT_GT(gap_of(both_flat, both_flat_other, {}, 1).share, 5);
  const Token both_steep = with_scores({0.0F, 0.0F, 1.0F}, {0.0F, small, -1.0F});
  const Token both_steep_other = with_scores({0.0F, 0.0F, 1.0F}, {small, 0.0F, -1.0F});
  EXPECT_LT(gap_of(both_steep, both_steep_other, {}, 1).share, 1);
}

TEST(NearTie, ScoresMustFollowFromLogits) {
  const std::vector<float> bias = {0.1F, -7.0F, 0.3F};
  const Token baseline = with_scores({0.5F, 1.0F, -2.0F}, bias);
  Token policy = with_scores({0.501F, 0.99F, -2.1F}, bias);
  EXPECT_TRUE(are_consistent(policy.row(), baseline.row()));
  policy.scores[2] += 1e-4F;
  EXPECT_FALSE(are_consistent(policy.row(), baseline.row()));
}

/// Rounding that moves logits by up to the bound flips choices now and then, and is never refused;
/// the same choices of other tokens are.
TEST(NearTie, WhatRoundingDoesIsNeverRefused) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  const RowBounds bounds = {.row = 1e-3, .element = 5e-3};
  int num_flipped = 0;
  int num_refused = 0;
  for (int round = 0; round < 40'000; ++round) {
    const bool has_scores = round % 2 == 0;
    const ExpertGroups groups = {4, 2, has_scores ? GroupScore::sum_of_two : GroupScore::best};
    std::vector<float> logits(16);
    std::vector<float> moved(16);
    std::vector<float> bias(16);
    for (std::size_t i = 0; i < 16; ++i) {
      logits[i] = normal(random);
      const auto most = static_cast<float>(0.5 * bounds.element) * std::abs(logits[i]);
      moved[i] = logits[i] + std::uniform_real_distribution<float>(-most, most)(random);
      bias[i] = 0.2F * normal(random);
    }
    const Token baseline = has_scores ? with_scores(logits, bias) : Token{logits, {}};
    const Token policy = has_scores ? with_scores(moved, bias) : Token{moved, {}};
    if (choice_of(policy, groups, 4) == choice_of(baseline, groups, 4)) {
      continue;
    }
    ++num_flipped;
    ASSERT_LE(gap_of(policy, baseline, groups, 4, bounds).share, 1) << "round " << round;
    ASSERT_TRUE(are_consistent(policy.row(), baseline.row()));
    // 400 times the error of every logit: more than rounding explains, and mostly seen.
    for (std::size_t i = 0; i < 16; ++i) {
      moved[i] = logits[i] + 400 * (moved[i] - logits[i]);
    }
    const Token wrong = has_scores ? with_scores(moved, bias) : Token{moved, {}};
    num_refused += gap_of(wrong, baseline, groups, 4, bounds).share > 1 ? 1 : 0;
  }
  EXPECT_GT(num_flipped, 20);
  EXPECT_GT(num_refused, num_flipped / 3);
}

/// Through the whole comparison: ids that groups forbid, groups far apart, scores that are off.
TEST(NearTie, ComparisonOfRunsKnowsGroupsAndScores) {
  const ExpertGroups groups = {2, 1, GroupScore::sum_of_two};
  const auto run_of = [&](const Token& token) {
    const auto ids = choice_of(token, groups, 2);
    return LayerRouting{
        .expert_ids = ids, .natural_ids = ids, .logits = token.logits, .scores = token.scores};
  };
  const auto compare = [&](const LayerRouting& policy, const LayerRouting& baseline) {
    RoutingComparison comparison({.request = {0},
                                  .position = {0},
                                  .is_given = {0},
                                  .top_k = 2,
                                  .num_experts = 4,
                                  .groups = groups},
                                 false);
    comparison.add_layer(kBounds, policy, baseline);
    return comparison.result();
  };
  const std::vector<float> bias = {0.0F, 0.1F, 0.2F, 0.0F};
  const LayerRouting baseline = run_of(with_scores({1.0F, 0.5F, 0.4F, 0.3F}, bias));
  EXPECT_EQ(compare(baseline, baseline).num_mismatches, 0);
  LayerRouting forbidden = baseline;  // the best two of all, of two groups
  const auto best = best_experts(forbidden.scores, {}, 2);
  forbidden.natural_ids.assign(best.begin(), best.end());
  forbidden.expert_ids = forbidden.natural_ids;
  ASSERT_NE(forbidden.expert_ids, baseline.expert_ids);
  ASSERT_TRUE(compare(forbidden, baseline).first_mismatch.has_value());
  EXPECT_NE(compare(forbidden, baseline).first_mismatch->what.find("not the best"),
            std::string::npos);
  LayerRouting off = baseline;
  off.scores[3] -= 0.01F;
  ASSERT_TRUE(compare(off, baseline).first_mismatch.has_value());
  EXPECT_NE(compare(off, baseline).first_mismatch->what.find("do not follow"), std::string::npos);
}

}  // namespace
}  // namespace dovetail
