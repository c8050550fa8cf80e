// summary.json of a policy: times, metrics, traffic, verdict.
#include <map>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/compare/compare.hpp"
#include "framework/compare/summary.hpp"
#include "tests/unit/compare/compare_fixture.hpp"

namespace dovetail {
namespace {

TEST_F(Compare, SummaryHoldsTimesMetricsTrafficAndVerdict) {
  compare();
  const auto own = folder_.path() / "a_dual";
  const auto other = folder_.path() / "b_sequential";
  const nlohmann::json json =
      policy_summary(own, {.baseline_dir = other, .verification = verify_policies(other, own)});
  EXPECT_EQ(json.at("policy"), "a_dual");
  EXPECT_EQ(json.at("timings"), "valid");
  EXPECT_EQ(json.at("step_ns").at("p50"), 55'000);
  EXPECT_EQ(json.at("speed_up"), 2);
  EXPECT_EQ(json.at("metrics").at("terms_ns").at("split_tax"), 11'000);
  EXPECT_EQ(json.at("decisions").at("ubatched"), 3);
  EXPECT_EQ(json.at("verification").at("verdict"), "verified");
  EXPECT_EQ(json.at("attributes").at("host"), "node7");
  const auto& traffic = json.at("traffic");
  EXPECT_EQ(traffic.at("combine_wire_bytes"), 400) << "two ranks";
  EXPECT_EQ(traffic.at("tokens_per_expert"), nlohmann::json::parse("[[1, 3, 1, 3]]"));
  EXPECT_EQ(traffic.at("imbalance_experts").at(0), 1.5);
  EXPECT_EQ(traffic.at("imbalance_ranks"), 1);
  EXPECT_TRUE(policy_summary(own).at("speed_up").is_null());
}

TEST_F(Compare, SummaryOfTheBaselineHasFactorsOfOne) {
  // Two profiled steps, in which another rank each is the slowest because it computes longer.
  for (std::size_t rank = 0; rank < 2; ++rank) {
    auto& profiles = baseline_.ranks[rank].profiles;
    profiles.push_back(profiles[0]);
    profiles[rank].passes[0].end_ns += 10'000;
    profiles[rank].passes[1].op_end_ns[4] += 10'000;
  }
  compare();
  const auto own = folder_.path() / "b_sequential";
  const nlohmann::json json = policy_summary(own, {.baseline_dir = own});
  EXPECT_EQ(json.at("speed_up"), 1);
  EXPECT_EQ(json.at("metrics").at("split_tax_factor"), 1);
  EXPECT_EQ(json.at("metrics").at("comm_split_factor"), 1);
  EXPECT_EQ(json.at("metrics").at("terms_ns").at("split_tax"), 0);
  EXPECT_TRUE(policy_summary(own).at("metrics").at("split_tax_factor").is_null());
}

/// Every scalar whose row says how it is joined is in the summary, under its own name.
TEST_F(Compare, SummaryHasTheScalarsOfTheRows) {
  compare();
  const nlohmann::json summary = policy_summary(folder_.path() / "a_dual");
  const std::map<std::string, std::string> sections = {
      {path::kGraph, "graphs"}, {path::kMemory, "memory"}, {path::kTraffic, "traffic"}};
  int found = 0;
  for (const DatasetRow& row : kDatasetRows) {
    const std::string path(row.path);
    const auto section = sections.find(path.substr(0, path.rfind('/')));
    if (row.is_scalar() && section != sections.end()) {
      EXPECT_EQ(summary.at(section->second).contains(path.substr(path.rfind('/') + 1)),
                row.over_ranks != OverRanks::left_out)
          << path;
      ++found;
    } else {
      EXPECT_EQ(row.over_ranks, OverRanks::left_out) << path << " has no section";
    }
  }
  EXPECT_GE(found, 14);
}

TEST_F(Compare, SummaryAddsUpTheReplicasOfAnExpert) {
  policy_.expert_parallel = 1;
  compare();
  EXPECT_EQ(policy_summary(folder_.path() / "a_dual").at("traffic").at("tokens_per_expert"),
            nlohmann::json::parse("[[2, 6]]"));
}

/// Counts that name their origin: (1 + 3) on rank 0, (5 + 7) on rank 1.
TEST_F(Compare, ImbalanceIsMaxOverMeanOfExpertsAndOfRanks) {
  policy_.ranks[1].tokens_per_expert = {5, 7};
  const std::string text = to_text(compare());
  EXPECT_NE(text.find("imbalance [x]"), std::string::npos) << text;
  EXPECT_NE(text.find(" 1.50 "), std::string::npos) << text;
  const nlohmann::json traffic = policy_summary(folder_.path() / "a_dual").at("traffic");
  EXPECT_EQ(traffic.at("tokens_per_expert"), nlohmann::json::parse("[[1, 3, 5, 7]]"));
  EXPECT_EQ(traffic.at("tokens_per_rank"), nlohmann::json::parse("[[4, 12]]"));
  EXPECT_EQ(traffic.at("imbalance_experts"), nlohmann::json::parse("[1.75]"));
  EXPECT_EQ(traffic.at("imbalance_ranks"), 1.5);
}

TEST_F(Compare, ReplicasAddUpForExpertsButNotForRanks) {
  policy_.expert_parallel = 1;
  policy_.ranks[1].tokens_per_expert = {5, 7};
  compare();
  const nlohmann::json traffic = policy_summary(folder_.path() / "a_dual").at("traffic");
  EXPECT_EQ(traffic.at("tokens_per_expert"), nlohmann::json::parse("[[6, 10]]"));
  EXPECT_EQ(traffic.at("imbalance_experts"), nlohmann::json::parse("[1.25]"));
  EXPECT_EQ(traffic.at("imbalance_ranks"), 1.5);
}

/// Over both layers each expert and each rank has the same; in each layer one has three times as
/// much as the other. The third layer has no experts.
TEST_F(Compare, SkewsOfLayersDoNotCancel) {
  policy_.ranks[0].tokens_per_expert = {3, 3, 1, 1, 0, 0};
  policy_.ranks[1].tokens_per_expert = {1, 1, 3, 3, 0, 0};
  const std::string text = to_text(compare());
  EXPECT_NE(text.find(" 1.50 "), std::string::npos) << text;
  const nlohmann::json traffic = policy_summary(folder_.path() / "a_dual").at("traffic");
  EXPECT_EQ(traffic.at("tokens_per_expert"),
            nlohmann::json::parse("[[3, 3, 1, 1], [1, 1, 3, 3], [0, 0, 0, 0]]"));
  EXPECT_EQ(traffic.at("tokens_per_rank"), nlohmann::json::parse("[[6, 2], [2, 6], [0, 0]]"));
  EXPECT_EQ(traffic.at("imbalance_experts"), nlohmann::json::parse("[1.5, 1.5, 1.0]"));
  EXPECT_EQ(traffic.at("imbalance_ranks"), 1.5);
}

TEST_F(Compare, AnIdlePolicyIsBalanced) {
  for (SyntheticRank& rank : policy_.ranks) {
    rank.tokens_per_expert = {0, 0};
  }
  compare();
  const nlohmann::json traffic = policy_summary(folder_.path() / "a_dual").at("traffic");
  EXPECT_EQ(traffic.at("imbalance_experts"), nlohmann::json::parse("[1.0]"));
  EXPECT_EQ(traffic.at("imbalance_ranks"), 1);
}

TEST_F(Compare, SummaryOfAMismatchOrAFailureHasNoTimes) {
  policy_.ranks[0].outputs.at("hidden").values.at(0) += 1;
  compare();
  const auto own = folder_.path() / "a_dual";
  const VerifyReport verdict = verify_policies(folder_.path() / "b_sequential", own);
  const nlohmann::json json = policy_summary(own, {.baseline_dir = {}, .verification = verdict});
  EXPECT_EQ(json.at("timings"), "invalid");
  EXPECT_TRUE(json.at("step_ns").is_null());
  EXPECT_TRUE(json.at("metrics").is_null());
  EXPECT_EQ(json.at("verification").at("worst_tensor"), "hidden");

  const TemporaryFolder folder;
  policy_.ranks[1].status = RunStatus::failed;
  const nlohmann::json failed = policy_summary(policy_.write(folder.path()));
  EXPECT_EQ(failed.at("status"), "failed");
  EXPECT_EQ(failed.at("timings"), "invalid");
  EXPECT_TRUE(failed.at("step_ns").is_null());
  EXPECT_TRUE(failed.at("traffic").is_null());
}

}  // namespace
}  // namespace dovetail
