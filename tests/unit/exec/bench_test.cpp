// The benchmarks' statistics, and that each benchmark measures what it says; no times are judged.
#include "framework/exec/bench.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

TEST(Bench, SummarizesSamples) {
  std::vector<double> samples;
  for (int i = 200; i >= 1; --i) {
    samples.push_back(i);
  }
  const BenchResult result = summarize("a", "b", "ns", samples);
  EXPECT_EQ(result.num_samples, 200U);
  EXPECT_EQ(result.median, 100.5);
  EXPECT_EQ(result.p99, 198);
  EXPECT_EQ(result.min, 1);
  EXPECT_EQ(result.max, 200);
  EXPECT_EQ(summarize("a", "b", "ns", std::vector<double>(100, 3)).p99, 3);
  EXPECT_FALSE(summarize("a", "b", "ns", std::vector<double>(99, 3)).p99);
  EXPECT_EQ(summarize("a", "b", "ns", {9, 1, 5}).median, 5);
  EXPECT_THROW(summarize("a", "b", "ns", {}), ContractError);
}

TEST(Bench, RunsAndCountsItsSamples) {
  const auto handoff = bench_handoff(true, 50);
  ASSERT_EQ(handoff.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(handoff[i].num_samples, 50 * (i + 2) - 1);
    EXPECT_GE(handoff[i].min, 0);
    EXPECT_LE(handoff[i].median, handoff[i].max);
  }
  const auto runner = bench_runner(false, 10);
  ASSERT_EQ(runner.size(), 8U);
  for (const auto& result : runner) {
    EXPECT_EQ(result.num_samples, 10U);
    EXPECT_GT(result.min, 0);
  }
  const auto plan = bench_plan(2);
  ASSERT_EQ(plan.size(), 2U);
  EXPECT_GT(plan[0].min, 0);
}

TEST(Bench, PrintsJson) {
  const nlohmann::json json = summarize("handoff", "2 threads", "ns per hand-off", {1, 2});
  EXPECT_EQ(json.at("samples"), 2);
  EXPECT_EQ(json.at("median"), 1.5);
  EXPECT_EQ(json.at("variant"), "2 threads");
  EXPECT_EQ(json.size(), 8U);
}

}  // namespace
}  // namespace dovetail
