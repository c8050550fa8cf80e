// A baseline that is named for all points of a sweep.
#include "framework/compare/sweep_baseline.hpp"

#include <gtest/gtest.h>

#include "tests/support/input_error.hpp"

namespace dovetail {
namespace {

/// `step_ns`: the p50; 0 = no times.
SweepPolicy policy_of(const std::string& name, double step_ns, std::optional<double> split_tax) {
  SweepPolicy policy{.name = name, .step_ns = std::nullopt, .split_tax = split_tax};
  if (step_ns > 0) {
    policy.step_ns = Statistics{.count = 1, .p50 = step_ns};
  }
  return policy;
}

/// Two points of two policies, compared with `plain`, and one of `plain` alone.
SweepResult sample() {
  SweepResult result;
  result.points.resize(3);
  result.points[0].policies = {policy_of("plain", 30, 1), policy_of("dual", 20, 1.5)};
  result.points[1].policies = {policy_of("plain", 40, 1), policy_of("dual", 0, std::nullopt)};
  result.points[2].policies = {policy_of("plain", 50, 1)};
  for (SweepPointResult& point : result.points) {
    set_speed_ups(point.policies, &point.policies.front());
  }
  return result;
}

TEST(SweepBaseline, IsThatOfEachPoint) {
  auto result = sample();
  EXPECT_EQ(result.points[0].policies[1].speed_up, 1.5);
  EXPECT_NE(to_text(result).find("speed-up over the baseline of the point\n"), std::string::npos);
  set_baseline(result, "dual");
  EXPECT_NE(to_text(result).find("speed-up over dual of the point\n"), std::string::npos);
  const auto& first = result.points[0].policies;
  EXPECT_EQ(first[0].speed_up, 20.0 / 30);
  EXPECT_EQ(first[1].speed_up, 1);
  EXPECT_EQ(first[0].split_tax, 1 / 1.5);
  EXPECT_EQ(first[1].split_tax, 1);
}

TEST(SweepBaseline, APointWithoutItsTimesHasNoSpeedUps) {
  auto result = sample();
  set_baseline(result, "dual");
  for (const std::size_t point : {1U, 2U}) {
    for (const SweepPolicy& policy : result.points[point].policies) {
      EXPECT_FALSE(policy.speed_up || policy.split_tax) << "point " << point << ", " << policy.name;
    }
  }
}

TEST(SweepBaseline, MustHaveRunInSomePoint) {
  auto result = sample();
  EXPECT_EQ(testing::input_error_of([&] { set_baseline(result, "duel"); }),
            "--baseline: no point has run a policy 'duel'; there are: plain, dual");
  EXPECT_EQ(result.baseline, "");
  SweepResult pending;
  pending.points.resize(2);
  EXPECT_EQ(testing::input_error_of([&] { set_baseline(pending, "plain"); }),
            "--baseline: no point has run a policy 'plain'; none has results");
}

}  // namespace
}  // namespace dovetail
