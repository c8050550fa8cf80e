// Steps of different places or decisions are never in one statistic; percentiles take samples.
#include "framework/compare/step_kinds.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/order_statistics.hpp"
#include "framework/compare/compare.hpp"
#include "framework/compare/summary.hpp"
#include "tests/unit/compare/synthetic_run.hpp"

namespace dovetail {
namespace {

const KindDecision kUbatched = {.is_ubatched = true, .schedule = "dual_batch"};
const KindDecision kVetoed = {.veto = "below_threshold", .schedule = "sequential"};

/// `iterations` iterations of a long step and three short ones, the latter without ubatches.
std::vector<TimedStep> one_long_and_three_short(int iterations) {
  std::vector<TimedStep> steps;
  for (int i = 0; i < iterations; ++i) {
    steps.push_back({i, 0, 1000.0 + i, kUbatched});
    for (int step = 1; step < 4; ++step) {
      steps.push_back({i, step, 100.0 + step + i, kVetoed});
    }
  }
  return steps;
}

TEST(StepKinds, AreByPlaceAndDecision) {
  const auto kinds = kinds_of_steps(one_long_and_three_short(3));
  ASSERT_EQ(kinds.size(), 4U);
  EXPECT_EQ(kinds[0].decision, kUbatched);
  EXPECT_EQ(kinds[0].step_ns.p50, 1001);
  EXPECT_EQ(kinds[3].describe_steps(), "3");
  EXPECT_EQ(kinds[3].step_ns.count, 3);
  EXPECT_EQ(kinds[3].step_ns.min, 103);
  EXPECT_EQ(kinds[3].step_ns.max, 105);
}

TEST(StepKinds, NeighboursThatAreAlikeAreShownAsOneByTheirMean) {
  const auto merged = merged_kinds(one_long_and_three_short(3));
  ASSERT_EQ(merged.size(), 2U);
  EXPECT_EQ(merged[0].describe_steps(), "0");
  EXPECT_EQ(merged[1].describe_steps(), "1 to 3");
  EXPECT_EQ(merged[1].step_ns.count, 3) << "iterations, not steps";
  EXPECT_EQ(merged[1].step_ns.min, 102)
      << "the mean of 101, 102 and 103; the fastest step took 101";
  EXPECT_EQ(merged[1].step_ns.p50, 103);
}

TEST(StepKinds, NeighboursOfOtherLengthAreNotMerged) {
  auto steps = one_long_and_three_short(3);
  for (TimedStep& one : steps) {
    one.ns *= one.step == 2 ? 1.2 : 1;
  }
  const auto merged = merged_kinds(steps);
  ASSERT_EQ(merged.size(), 4U);
  EXPECT_EQ(merged[2].describe_steps(), "2");
}

TEST(StepKinds, NeighboursThatScatterMoreThanTheyDifferAreMerged) {
  auto steps = one_long_and_three_short(3);
  for (TimedStep& one : steps) {
    one.ns *= one.step == 2 ? 1.2 : 1;
    one.ns *= one.step > 0 && one.iteration == 0 ? 1.3 : 1;
    one.ns *= one.step > 0 && one.iteration == 1 ? 0.8 : 1;
  }
  EXPECT_EQ(merged_kinds(steps).size(), 2U);
}

TEST(StepKinds, ADecisionThatDiffersInOneIterationIsAKindOfItsOwn) {
  auto steps = one_long_and_three_short(4);
  steps[2 * 4 + 2].decision = kUbatched;
  steps[2 * 4 + 2].ns = 5000;
  const auto merged = merged_kinds(steps);
  ASSERT_EQ(merged.size(), 5U) << "0, 1, twice 2, 3";
  EXPECT_EQ(merged[2].step_ns.max, 105) << "without the 5000";
  EXPECT_EQ(merged[3].step_ns.p50, 5000);
  EXPECT_EQ(merged[3].step_ns.count, 1);
  EXPECT_EQ(merged[3].describe_steps(), "2");
}

TEST(StepKinds, AnUnfinishedIterationHasNoMean) {
  auto steps = one_long_and_three_short(3);
  steps.pop_back();
  EXPECT_EQ(merged_kinds(steps)[1].step_ns.count, 2);
  EXPECT_TRUE(merged_kinds({}).empty());
}

TEST(StepKinds, SayHowAStepRan) {
  EXPECT_EQ(KindDecision{}.describe(), "plain");
  EXPECT_EQ(kVetoed.describe(), "vetoed: below_threshold");
  auto captured = kUbatched;
  captured.graph = "full";
  captured.is_captured = true;
  EXPECT_EQ(captured.describe(), "ubatched, graph full, just captured");
}

/// A policy of `iterations` iterations of two steps, 1000 us and 100 us, the second one vetoed.
std::filesystem::path write_two_kinds(const std::filesystem::path& folder, int iterations) {
  SyntheticRun run = make_synthetic_run(2, "dual_batch");
  add_synthetic_iterations(run, iterations, 1, 1, 2);
  for (SyntheticRank& rank : run.ranks) {
    for (std::size_t i = 0; i < rank.step_ns.size(); ++i) {
      rank.step_ns[i] = i % 2 == 0 ? 1'000'000 : 100'000;
      rank.decisions.push_back(
          i % 2 == 0 ? DecisionRow{.ubatched = 1}
                     : DecisionRow{.reason = static_cast<std::int64_t>(VetoReason::rank_veto)});
    }
  }
  return run.write(folder);
}

TEST(StepKinds, OfAPolicyStandInCompareAndSummaryAndTheStepTimeIsTheIterations) {
  TemporaryFolder folder;
  const auto policy = write_two_kinds(folder.path(), 7);
  const auto report = compare_policies({folder.path()});
  EXPECT_EQ(report.policies[0].result.step_ns.count, 7);
  EXPECT_EQ(report.policies[0].result.step_ns.p50, 550'000) << "pooled, it would be a step";
  EXPECT_EQ(report.policies[0].result.step_ns.min, 550'000);
  EXPECT_EQ(report.policies[0].result.step_ns.max, 550'000);
  const auto text = to_text(report);
  EXPECT_NE(text.find("Steps of an iteration by kind"), std::string::npos) << text;
  EXPECT_NE(text.find("vetoed: rank_veto"), std::string::npos) << text;
  EXPECT_NE(text.find("mean over the steps of an iteration"), std::string::npos) << text;
  const auto summary = policy_summary(policy);
  ASSERT_EQ(summary.at("step_kinds").size(), 2U);
  EXPECT_EQ(summary.at("step_kinds").at(1).at("step_ns").at("p50"), 100'000);
  EXPECT_EQ(summary.at("step_kinds").at(1).at("veto"), "rank_veto");
  EXPECT_EQ(summary.at("each_step").size(), 2U);
}

TEST(StepKinds, OneKindIsNoTable) {
  TemporaryFolder folder;
  make_synthetic_run(2, "sequential").write(folder.path());
  const auto text = to_text(compare_policies({folder.path()}));
  EXPECT_EQ(text.find("by kind"), std::string::npos) << text;
  EXPECT_EQ(text.find("of an iteration"), std::string::npos) << text;
}

TEST(Percentiles, TakeASampleBeyondThem) {
  EXPECT_FALSE(has_percentile(19, 95));
  EXPECT_TRUE(has_percentile(20, 95));
  EXPECT_FALSE(has_percentile(99, 99));
  EXPECT_TRUE(has_percentile(100, 99));
}

TEST(Percentiles, AreNotThereWithFewerSamples) {
  std::vector<double> sample(19, 1);
  EXPECT_FALSE(statistics(sample).p95);
  sample.push_back(2);
  EXPECT_DOUBLE_EQ(statistics(sample).p95.value(), 1.05);
  EXPECT_FALSE(statistics(sample).p99);
  sample.resize(99, 3);
  EXPECT_FALSE(statistics(sample).p99);
  sample.push_back(3);
  EXPECT_DOUBLE_EQ(statistics(sample).p99.value(), 3);
}

TEST(Percentiles, ThatOlderFilesMadeOfTooFewAreNotRead) {
  auto json = to_json(statistics(std::vector<double>(20, 7)));
  EXPECT_TRUE(json.at("p99").is_null());
  EXPECT_EQ(read_statistics(json).p95, 7);
  json["p99"] = 9;
  EXPECT_FALSE(read_statistics(json).p99);
  json["count"] = 19;
  EXPECT_FALSE(read_statistics(json).p95);
  json["count"] = 100;
  EXPECT_EQ(read_statistics(json).p99, 9);
}

TEST(Percentiles, StandAsADashInTables) {
  TemporaryFolder folder;
  SyntheticRun run = make_synthetic_run(1, "sequential");
  add_synthetic_iterations(run, 20, 1, 1, 1);
  run.write(folder.path());
  const auto text = to_text(compare_policies({folder.path()}));
  EXPECT_NE(text.find("20     0.001     0.001         -     0.001"), std::string::npos) << text;
}

}  // namespace
}  // namespace dovetail
