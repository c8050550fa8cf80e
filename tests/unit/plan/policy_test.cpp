// Orders, lanes and waits of each policy, and what they refuse.
#include "framework/plan/policy.hpp"

#include <gtest/gtest.h>

#include "framework/plan/schedule_check.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

using testing::kDense;
using testing::kMoe;
using testing::kShared;

Schedule make(const std::string& policy,
              std::vector<LayerShape> layers,
              int num_ubatches,
              int num_groups = 1) {
  return policies().at(policy).make_schedule(
      {{std::move(layers)}, WorkPhase::prefill, num_ubatches, {}, num_groups});
}

/// "attention0.1": phase, layer, ubatch, or "experts0.1g2" with a group; comm ops in brackets.
std::vector<std::string> order(const Schedule& schedule) {
  std::vector<std::string> names;
  for (const auto& op : schedule.ops) {
    std::string name(to_string(op.phase));
    name +=
        (op.layer == kNoLayer ? "" : std::to_string(op.layer)) + "." + std::to_string(op.ubatch);
    name += op.group == kNoGroup ? "" : "g" + std::to_string(op.group);
    names.push_back(op.lane == Lane::comm ? "[" + name + "]" : name);
  }
  return names;
}

using Names = std::vector<std::string>;

TEST(Policies, AreRegisteredWithSummaries) {
  EXPECT_EQ(policies().names().front(), "sequential") << "the baseline comes first";
  for (const auto& description : policies().descriptions()) {
    EXPECT_FALSE(description.summary.empty()) << description.name;
  }
  EXPECT_THROW(policies().at("dual"), InputError);
  EXPECT_EQ(policies().at("dual_batch").default_ubatches, 2);
  EXPECT_EQ(policies().at("dual_batch").max_ubatches, 8);
}

TEST(Sequential, IsTheOrderOfTheModelOnOneLane) {
  const Schedule schedule = make("sequential", {kDense, kShared}, 1);
  EXPECT_EQ(order(schedule),
            (Names{"embed.0",
                   "attention0.0",
                   "mlp0.0",
                   "attention1.0",
                   "route1.0",
                   "dispatch1.0",
                   "experts1.0",
                   "combine1.0",
                   "shared_experts1.0",
                   "output.0"}));
  for (const auto& op : schedule.ops) {
    EXPECT_TRUE(op.waits.empty());
  }
}

TEST(SharedExpert, RunsSharedExpertsBesideTheDispatch) {
  const Schedule schedule = make("shared_expert", {kShared, kMoe}, 1);
  EXPECT_EQ(order(schedule),
            (Names{"embed.0",
                   "attention0.0",
                   "route0.0",
                   "[dispatch0.0]",
                   "shared_experts0.0",
                   "experts0.0",
                   "[combine0.0]",
                   "attention1.0",
                   "route1.0",
                   "[dispatch1.0]",
                   "experts1.0",
                   "[combine1.0]",
                   "output.0"}));
  EXPECT_TRUE(schedule.ops[4].waits.empty()) << "shared experts must not wait for the dispatch";
  EXPECT_EQ(schedule.ops[5].waits, std::vector<int>{3});
  EXPECT_EQ(schedule.ops[7].waits, std::vector<int>{6});
}

TEST(DualBatch, TakesTurnsBehindDispatchAndCombine) {
  const Schedule schedule = make("dual_batch", {kShared, kMoe}, 2);
  EXPECT_EQ(order(schedule),
            (Names{"embed.0",       "attention0.0",      "route0.0",          "[dispatch0.0]",
                   "embed.1",       "attention0.1",      "route0.1",          "[dispatch0.1]",
                   "experts0.0",    "[combine0.0]",      "shared_experts0.0", "experts0.1",
                   "[combine0.1]",  "shared_experts0.1", "attention1.0",      "route1.0",
                   "[dispatch1.0]", "attention1.1",      "route1.1",          "[dispatch1.1]",
                   "experts1.0",    "[combine1.0]",      "experts1.1",        "[combine1.1]",
                   "output.0",      "output.1"}));
  EXPECT_EQ(schedule.ops[3].waits, std::vector<int>{2});
  EXPECT_EQ(schedule.ops[8].waits, std::vector<int>{3});
  EXPECT_EQ(schedule.ops[9].waits, std::vector<int>{8});
  EXPECT_EQ(schedule.ops[14].waits, std::vector<int>{9});
  EXPECT_EQ(schedule.ops[25].waits, std::vector<int>{23});
}

TEST(DualBatch, GoesThroughDenseLayersWithoutHandingOver) {
  const Schedule schedule = make("dual_batch", {kDense, kMoe, kDense}, 2);
  EXPECT_EQ(order(schedule),
            (Names{"embed.0",       "attention0.0",  "mlp0.0",       "attention1.0", "route1.0",
                   "[dispatch1.0]", "embed.1",       "attention0.1", "mlp0.1",       "attention1.1",
                   "route1.1",      "[dispatch1.1]", "experts1.0",   "[combine1.0]", "experts1.1",
                   "[combine1.1]",  "attention2.0",  "mlp2.0",       "output.0",     "attention2.1",
                   "mlp2.1",        "output.1"}));
}

TEST(DualBatch, HandsOverTwiceALayerAndUbatch) {
  for (int n = 2; n <= kMaxUbatches; ++n) {
    const Schedule schedule = make("dual_batch", std::vector<LayerShape>(5, kMoe), n);
    int hand_overs = 0;
    for (std::size_t i = 1; i < schedule.ops.size(); ++i) {
      hand_overs += schedule.ops[i].ubatch != schedule.ops[i - 1].ubatch ? 1 : 0;
    }
    EXPECT_EQ(hand_overs, (2 * 5 + 1) * n - 1);
  }
}

TEST(ExpertGroups, ComputesAGroupWhileOthersTravel) {
  const Schedule schedule = make("expert_groups", {kShared, kDense, kMoe}, 1, 2);
  EXPECT_EQ(order(schedule),
            (Names{"embed.0",         "attention0.0",      "route0.0",        "[dispatch0.0g0]",
                   "[dispatch0.0g1]", "shared_experts0.0", "experts0.0g0",    "[combine0.0g0]",
                   "experts0.0g1",    "[combine0.0g1]",    "attention1.0",    "mlp1.0",
                   "attention2.0",    "route2.0",          "[dispatch2.0g0]", "[dispatch2.0g1]",
                   "experts2.0g0",    "[combine2.0g0]",    "experts2.0g1",    "[combine2.0g1]",
                   "output.0"}));
  const auto waits = [&](std::size_t op) { return schedule.ops[op].waits; };
  EXPECT_EQ(waits(3), std::vector<int>{2});
  EXPECT_EQ(waits(4), std::vector<int>{}) << "the order of the comm lane is enough";
  EXPECT_EQ(waits(6), std::vector<int>{3}) << "not for the dispatch of the other group";
  EXPECT_EQ(waits(7), std::vector<int>{6});
  EXPECT_EQ(waits(8), std::vector<int>{4});
  EXPECT_EQ(waits(10), std::vector<int>{9});
}

TEST(ExpertGroups, OfUbatchesTakeTurnsAsInDualBatch) {
  const Schedule schedule = make("expert_groups", {kShared}, 2, 2);
  EXPECT_EQ(order(schedule),
            (Names{"embed.0",         "attention0.0",    "route0.0",          "[dispatch0.0g0]",
                   "[dispatch0.0g1]", "embed.1",         "attention0.1",      "route0.1",
                   "[dispatch0.1g0]", "[dispatch0.1g1]", "experts0.0g0",      "[combine0.0g0]",
                   "experts0.0g1",    "[combine0.0g1]",  "shared_experts0.0", "experts0.1g0",
                   "[combine0.1g0]",  "experts0.1g1",    "[combine0.1g1]",    "shared_experts0.1",
                   "output.0",        "output.1"}));
}

TEST(ExpertGroups, InOneGroupIsTheOrderOfOtherPolicies) {
  const std::vector<LayerShape> layers = {kShared, kDense, kMoe};
  EXPECT_EQ(make("expert_groups", layers, 1, 1).ops, make("shared_expert", layers, 1).ops);
  for (int n = 2; n <= kMaxUbatches; ++n) {
    EXPECT_EQ(make("expert_groups", layers, n, 1).ops, make("dual_batch", layers, n).ops) << n;
  }
}

TEST(Policies, AllSchedulesAreProven) {
  for (const auto& layers : testing::layer_mixes()) {
    for (const auto& schedule : testing::all_policy_schedules(layers)) {
      EXPECT_EQ(schedule_errors(schedule), Names{}) << schedule.name;
    }
  }
}

TEST(Policies, RefuseOtherNumbersOfUbatches) {
  EXPECT_THROW(make("sequential", {kMoe}, 2), InputError);
  EXPECT_THROW(make("shared_expert", {kMoe}, 0), InputError);
  EXPECT_THROW(make("dual_batch", {kMoe}, 1), InputError);
  EXPECT_THROW(make("dual_batch", {kMoe}, 9), InputError);
  EXPECT_THROW(make("expert_groups", {kMoe}, 9), InputError);
  EXPECT_THROW(make("expert_groups", {kMoe}, 1, 0), InputError);
  EXPECT_EQ(testing::input_error_of([] { make("expert_groups", {kMoe}, 1, 9); }),
            "policy expert_groups with 9 groups; allowed: 1 to 8");
  EXPECT_EQ(testing::input_error_of([] { make("dual_batch", {kMoe}, 9); }),
            "policy dual_batch with 9 ubatches; allowed: 2 to 8");
}

}  // namespace
}  // namespace dovetail
