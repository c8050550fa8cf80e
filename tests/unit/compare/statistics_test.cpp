// Steps of ranks in one number: the slowest rank, the mean step of an iteration, percentiles.
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/compare/metrics.hpp"

namespace dovetail {
namespace {

TEST(StepStatistics, TakesTheSlowestRankOfEachStepAndMarksUnfinishedOnes) {
  const auto times = slowest_ranks({{10, 50, 30, 40}, {20, 20, -1, 35}});
  ASSERT_EQ(times.size(), 4U);
  EXPECT_EQ(times[1], 50);
  EXPECT_TRUE(std::isnan(times[2]));
  EXPECT_EQ(times[3], 40);
  EXPECT_TRUE(slowest_ranks({}).empty());
  EXPECT_TRUE(std::isnan(slowest_ranks({{-1}, {4}})[0]));
  EXPECT_THROW(slowest_ranks({{1}, {1, 2}}), ContractError);
}

TEST(StepStatistics, AnIterationIsItsMeanStep) {
  const auto means = mean_steps({10, 30, 20, std::nan("")}, 2);
  ASSERT_EQ(means.size(), 2U);
  EXPECT_EQ(means[0], 20);
  EXPECT_TRUE(std::isnan(means[1]));
  EXPECT_THROW(mean_steps({1, 2, 3}, 2), ContractError);
  EXPECT_TRUE(mean_steps({}, 0).empty());
}

TEST(Statistics, AreNumpysPercentiles) {
  std::vector<double> sample;
  for (int i = 100; i >= 1; --i) {
    sample.push_back(i);
  }
  const Statistics result = statistics(sample);
  EXPECT_DOUBLE_EQ(result.p50, 50.5);
  EXPECT_DOUBLE_EQ(result.p95.value(), 95.05);
  EXPECT_DOUBLE_EQ(result.p99.value(), 99.01);
  const Statistics three = statistics({20, 50, 40});
  EXPECT_EQ(three.count, 3);
  EXPECT_EQ(three.min, 20);
  EXPECT_EQ(three.p50, 40);
  EXPECT_EQ(three.max, 50);
  EXPECT_DOUBLE_EQ(three.mean, 110.0 / 3);
}

TEST(Imbalance, IsMaxOverMean) {
  EXPECT_DOUBLE_EQ(imbalance({1, 1, 4}), 2);
  EXPECT_DOUBLE_EQ(imbalance({5, 5}), 1);
  EXPECT_DOUBLE_EQ(imbalance({}), 1);
  EXPECT_DOUBLE_EQ(imbalance({0, 0}), 1);
  EXPECT_DOUBLE_EQ(imbalance_over_layers({{1, 1, 4}}), imbalance({1, 1, 4}));
  EXPECT_DOUBLE_EQ(imbalance_over_layers({{3, 1}, {1, 3}}), 1.5) << "summed first: 1";
  EXPECT_DOUBLE_EQ(imbalance_over_layers({{3, 1}, {0, 0}, {1, 3}}), 1.5);
  EXPECT_DOUBLE_EQ(imbalance_over_layers({{30, 10}, {2, 2}}), 32.0 / 22)
      << "large layers weigh more";
  EXPECT_DOUBLE_EQ(imbalance_over_layers({}), 1);
  EXPECT_DOUBLE_EQ(imbalance_over_layers({{}, {0, 0}}), 1);
}

}  // namespace
}  // namespace dovetail
