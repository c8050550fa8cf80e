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

/// Three rounds, in which the policy is twice as fast.
SweepPolicy with_rounds(const std::string& name, double factor, std::int64_t began_ns) {
  SweepPolicy policy = policy_of(name, 30 * factor, std::nullopt);
  policy.round_ns = {30 * factor, 31 * factor, 32.1 * factor};
  policy.rounds_began_ns = began_ns;
  return policy;
}

/// What was measured in another point ran at another time.
TEST(SweepBaseline, ADifferenceIsClaimedOverRoundsOfOnePointOnly) {
  using Flags = std::vector<std::string>;
  const auto compared = [](SweepPolicy baseline, SweepPolicy policy) {
    policy.flags = {"drift", "other_runs"};
    std::vector<SweepPolicy> policies = {std::move(baseline), std::move(policy)};
    set_speed_ups(policies, &policies.front());
    EXPECT_FALSE(policies[0].speed_up_basis || policies[0].counts);
    EXPECT_TRUE(policies[0].flags.empty());
    return policies[1];
  };
  const auto paired = compared(with_rounds("plain", 2, 7), with_rounds("dual", 1, 7));
  EXPECT_EQ(paired.speed_up_basis, SpeedUpBasis::rounds);
  EXPECT_EQ(paired.counts, true);
  EXPECT_EQ(paired.flags, Flags{"drift"});
  const auto equal = compared(with_rounds("plain", 1, 7), with_rounds("dual", 1, 7));
  EXPECT_EQ(equal.counts, false);
  const auto other = compared(with_rounds("plain", 2, 7), with_rounds("dual", 1, 8));
  EXPECT_EQ(other.speed_up_basis, SpeedUpBasis::runs);
  EXPECT_GT(other.speed_up_interval->low, 1.5) << "Welch's would claim it";
  EXPECT_EQ(other.counts, std::nullopt);
  EXPECT_EQ(other.flags, (Flags{"drift", "other_runs"}));
  const auto steps = compared(policy_of("plain", 30, 1), policy_of("dual", 20, 1));
  EXPECT_EQ(steps.speed_up_basis, SpeedUpBasis::steps);
  EXPECT_EQ(steps.counts, std::nullopt);
  EXPECT_EQ(steps.flags, (Flags{"drift", "one_round"}));
  auto taken = policy_of("dual", 20, 1);
  taken.measured_in_point = 3;
  EXPECT_EQ(compared(policy_of("plain", 30, 1), taken).speed_up_basis, SpeedUpBasis::runs);
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
