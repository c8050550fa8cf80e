// From what the ranks say of a step to what they do in it, without ranks.
#include "framework/plan/agreed_step.hpp"

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/plan/policy.hpp"

namespace dovetail {
namespace {

struct TwoRanks {
  explicit TwoRanks(const std::string& schedule, std::int64_t threshold = 0) {
    policy.name = schedule;
    policy.schedule = schedule;
    policy.thresholds.prefill = threshold;
    schedules = make_policy_schedules(policy, ModelShape{{{true, false}}}, WorkPhase::prefill);
    steps[0].batch.requests = {{.id = 0, .query_length = 10}, {.id = 1, .query_length = 7}};
    steps[1].batch.requests = {{.id = 2, .query_length = 5}};
  }

  std::vector<StepCuts> cuts_of(std::size_t rank) const {
    return cut_steps({steps[rank]}, split_rule(policy.split, {}), schedules.own.num_ubatches);
  }

  AgreementMessage message_of(std::size_t rank, VetoReason veto = VetoReason::none) const {
    const auto cuts = cuts_of(rank);
    return make_message({.rank = Rank(static_cast<int>(rank)),
                         .batch = steps[rank].batch,
                         .slices = cuts.front().split,
                         .schedule_digest = schedules.digest(),
                         .veto = veto});
  }

  AgreementRule rule() const { return agreement_rule(policy, schedules, WorkPhase::prefill, {}); }

  PolicyConfig policy;
  PolicySchedules schedules;
  std::array<StepWorkload, 2> steps;
};

TEST(AgreeOnStep, AnUbatchedStepRunsTheOwnSchedule) {
  const TwoRanks ranks("dual_batch");
  const auto cuts = ranks.cuts_of(0);
  const auto agreed = agree_on_step(reduce(ranks.message_of(0), ranks.message_of(1)),
                                    ranks.rule(),
                                    ranks.schedules,
                                    cuts.front());
  EXPECT_TRUE(agreed.decision.ubatched);
  EXPECT_EQ(&agreed.schedule, &ranks.schedules.own);
  EXPECT_EQ(agreed.schedule_digest, ranks.schedules.own_digest);
  EXPECT_EQ(agreed.schedule_index, 0);
  ASSERT_EQ(agreed.slices.size(), 2U);
  EXPECT_EQ(agreed.slices[0].num_tokens + agreed.slices[1].num_tokens, 17);
  EXPECT_EQ(agreed.decision.bounds.tokens[0], 8) << "of the fullest rank";
}

TEST(AgreeOnStep, AVetoedStepRunsThePlainOneOnTheWholeBatch) {
  const TwoRanks ranks("dual_batch");
  const auto cuts = ranks.cuts_of(0);
  const auto agreed =
      agree_on_step(reduce(ranks.message_of(0), ranks.message_of(1, VetoReason::rank_veto)),
                    ranks.rule(),
                    ranks.schedules,
                    cuts.front());
  EXPECT_FALSE(agreed.decision.ubatched);
  EXPECT_EQ(agreed.decision.veto_rank, 1);
  EXPECT_EQ(&agreed.schedule, &ranks.schedules.plain);
  EXPECT_EQ(agreed.schedule_digest, ranks.schedules.plain_digest);
  EXPECT_EQ(agreed.schedule_index, 1);
  ASSERT_EQ(agreed.slices.size(), 1U);
  EXPECT_EQ(agreed.slices[0].num_tokens, 17);
}

TEST(AgreeOnStep, ThresholdsOfThePolicyCount) {
  const TwoRanks ranks("dual_batch", 6);
  const auto cuts = ranks.cuts_of(0);
  const auto agreed = agree_on_step(reduce(ranks.message_of(0), ranks.message_of(1)),
                                    ranks.rule(),
                                    ranks.schedules,
                                    cuts.front());
  EXPECT_EQ(agreed.decision.reason, VetoReason::below_threshold);
  EXPECT_EQ(agreed.schedule_index, 1);
}

TEST(AgreeOnStep, OneUbatchHasNothingToDecide) {
  const TwoRanks ranks("sequential");
  const auto cuts = ranks.cuts_of(1);
  const auto agreed =
      agree_on_step(reduce(ranks.message_of(0), ranks.message_of(1, VetoReason::rank_veto)),
                    ranks.rule(),
                    ranks.schedules,
                    cuts.front());
  EXPECT_EQ(&agreed.schedule, &ranks.schedules.own);
  EXPECT_EQ(agreed.schedule_index, 0);
}

TEST(AgreeOnStep, OtherSchedulesOnARankAreAnError) {
  const TwoRanks dual("dual_batch");
  const TwoRanks staged("staged");
  const auto cuts = dual.cuts_of(0);
  EXPECT_THROW(agree_on_step(reduce(dual.message_of(0), staged.message_of(1)),
                             dual.rule(),
                             dual.schedules,
                             cuts.front()),
               RunError);
}

TEST(BoundsOfSteps, AreOfTheWidestStepOfAnyRank) {
  const TwoRanks ranks("dual_batch");
  const std::vector<AgreementMessage> steps = {ranks.message_of(1), ranks.message_of(0)};
  const auto rule = bounds_of_steps(std::nullopt, steps, 2);
  EXPECT_EQ(rule.widest_split.num_ubatches, 2);
  EXPECT_EQ(rule.widest_split.tokens[0], 8);
  EXPECT_EQ(rule.widest_split.tokens[1], 9);
  EXPECT_EQ(rule.widest_whole.tokens[0], 17);
  EXPECT_EQ(rule.widest_whole.query_length, 10);
  EXPECT_FALSE(rule.token_sizes.empty()) << "steps of 5 and of 17 tokens";
}

}  // namespace
}  // namespace dovetail
