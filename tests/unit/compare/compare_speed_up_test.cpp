// How sure a speed-up is, rounds of several policies, and drift.
#include <algorithm>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/compare/compare.hpp"
#include "framework/compare/summary.hpp"
#include "tests/unit/compare/compare_fixture.hpp"

namespace dovetail {
namespace {

/// Step times that scatter by a tenth about `middle`, always in the same way.
std::vector<std::int64_t> scattered(std::int64_t middle, std::size_t count) {
  std::vector<std::int64_t> times;
  while (times.size() < count) {
    const auto place = static_cast<std::int64_t>(times.size() * 7 % 11) - 5;
    times.push_back(middle + middle * place / 50);
  }
  return times;
}

TEST_F(Compare, ASpeedUpSaysHowSureItIs) {
  const auto set_times = [](SyntheticRun& run, const std::vector<std::int64_t>& times) {
    for (SyntheticRank& rank : run.ranks) {
      rank.step_ns = times;
    }
  };
  set_times(baseline_, scattered(100'000, 33));
  set_times(policy_, scattered(50'000, 33));
  const CompareReport report = compare();
  EXPECT_FALSE(report.policies[0].speed_up_interval) << "the baseline against itself";
  const auto interval = report.policies[1].speed_up_interval;
  ASSERT_TRUE(interval);
  EXPECT_TRUE(interval->contains(2) && !interval->contains(1));
  EXPECT_GT(interval->low, 1.8);
  EXPECT_LT(interval->high, 2.2);
  EXPECT_EQ(to_json(report).at("policies").at(1).at("speed_up_interval").at(0), interval->low);
  EXPECT_EQ(policy_summary(folder_.path() / "a_dual",
                           {.baseline_dir = folder_.path() / "b_sequential", .verification = {}})
                .at("speed_up_interval")
                .at(1),
            interval->high);
}

/// However clear it looks: the interval is shown, and claims nothing.
TEST_F(Compare, ASpeedUpOverTheStepsOfOneRoundIsNotCalledADifference) {
  for (SyntheticRun* run : {&baseline_, &policy_}) {
    for (SyntheticRank& rank : run->ranks) {
      rank.step_ns = scattered(run == &policy_ ? 50'000 : 100'000, 33);
    }
  }
  const CompareReport report = compare();
  EXPECT_EQ(report.policies[1].note(),
            "over the steps of one round: how rounds differ is not known; set execution.rounds");
  EXPECT_TRUE(report.policies[0].notes.empty()) << "of the baseline itself";
  const auto json = to_json(report).at("policies").at(1);
  EXPECT_FALSE(json.at("speed_up_interval").is_null());
  EXPECT_TRUE(json.at("speed_up_counts").is_null());
  EXPECT_EQ(json.at("speed_up_basis"), "steps");
  const auto flags = json.at("flags").get<std::vector<std::string>>();
  EXPECT_NE(std::find(flags.begin(), flags.end(), "one_round"), flags.end());
  const auto summary =
      policy_summary(folder_.path() / "a_dual", {.baseline_dir = folder_.path() / "b_sequential"});
  EXPECT_TRUE(summary.at("speed_up_counts").is_null());
  EXPECT_EQ(summary.at("speed_up_basis"), "steps");
}

/// Times of five rounds of three iterations, in which the machine becomes half as fast.
std::vector<std::int64_t> drifting(std::int64_t first) {
  std::vector<std::int64_t> times;
  for (std::int64_t i = 0; i < 15; ++i) {
    times.push_back(first + first * (i / 3) / 4 + i % 3);
  }
  return times;
}

void set_rounds(SyntheticRun& run, const std::vector<std::int64_t>& times, std::int64_t began_ns) {
  run.rounds = 5;
  run.rounds_began_ns = began_ns;
  for (SyntheticRank& rank : run.ranks) {
    rank.step_ns = times;
  }
}

TEST_F(Compare, PoliciesOfTheSameRoundsAreComparedRoundByRound) {
  set_rounds(baseline_, drifting(110'000), 7);
  set_rounds(policy_, drifting(100'000), 7);
  const CompareReport report = compare();
  const PolicyComparison& policy = report.policies[1];
  EXPECT_NEAR(*policy.speed_up, 1.1, 1e-3);
  EXPECT_LT(policy.speed_up_interval->high - policy.speed_up_interval->low, 1e-3);
  EXPECT_EQ(policy.counts, true);
  EXPECT_EQ(report.policies[0].counts, std::nullopt);
  ASSERT_EQ(policy.result.round_ns.size(), 5U);
  EXPECT_EQ(policy.result.round_ns[4], 200'001);
  const auto interval = step_interval(policy.result);
  EXPECT_TRUE(interval->contains(150'000) && interval->high > 160'000);
  const auto json = to_json(report).at("policies").at(1);
  EXPECT_EQ(json.at("speed_up_counts"), true);
  EXPECT_EQ(json.at("speed_up_basis"), "rounds");
  EXPECT_TRUE(to_json(report).at("policies").at(0).at("speed_up_basis").is_null());
  EXPECT_EQ(json.at("rounds_ns").at("p50").size(), 5U);
  EXPECT_EQ(json.at("rounds_ns").at("began_ns"), 7);
}

/// Rounds of a run that is as fast from its begin to its end say nothing of how fast the next run
/// is.
TEST_F(Compare, ADifferenceBetweenTwoRunsIsNotClaimed) {
  const std::string note =
      "of another run than the baseline: how runs differ is not known, so no difference is claimed";
  set_rounds(baseline_, scattered(110'000, 15), 7);
  set_rounds(policy_, scattered(50'000, 15), 8);
  const CompareReport report = compare();
  const PolicyComparison& policy = report.policies[1];
  EXPECT_NEAR(*policy.speed_up, 2.2, 0.1);
  EXPECT_GT(policy.speed_up_interval->low, 2) << "Welch's would claim it";
  EXPECT_GT(policy.speed_up_interval->high - policy.speed_up_interval->low, 0.01)
      << "not round by round, which would give 2.2 exactly";
  EXPECT_EQ(policy.counts, std::nullopt);
  EXPECT_EQ(policy.note(), note);
  EXPECT_EQ(to_json(report).at("policies").at(1).at("speed_up_basis"), "runs");

  // Files that do not say when their rounds began are told apart by their folders.
  set_rounds(baseline_, scattered(110'000, 15), 0);
  set_rounds(policy_, scattered(50'000, 15), 0);
  const auto one = baseline_.write(folder_.path() / "one");
  const auto two = policy_.write(folder_.path() / "two");
  EXPECT_EQ(compare_policies({one, two}).policies[1].note(), note);
  const auto beside = policy_.write(folder_.path() / "one");
  EXPECT_EQ(compare_policies({one, beside}).policies[1].counts, true);
}

TEST_F(Compare, AControlThatDiffersSaysThatTheRunWasNotQuiet) {
  policy_.policy = "control";
  set_rounds(baseline_, drifting(110'000), 7);
  set_rounds(policy_, drifting(100'000), 7);
  EXPECT_NE(to_text(compare()).find("the run was not quiet"), std::string::npos);
}

TEST_F(Compare, AControlThatDoesNotDifferSaysSo) {
  policy_.policy = "control";
  auto times = drifting(100'000);
  set_rounds(baseline_, times, 7);
  std::rotate(times.begin(), times.begin() + 1, times.begin() + 3);
  times[4] += 5000;
  set_rounds(policy_, times, 7);
  const auto text = to_text(compare());
  EXPECT_EQ(text.find("not quiet"), std::string::npos);
  EXPECT_NE(text.find("as fast as it"), std::string::npos);
}

TEST_F(Compare, ADifferenceThatMayBeNoneIsSaidToBeNone) {
  auto times = scattered(100'000, 15);
  set_rounds(baseline_, times, 7);
  std::reverse(times.begin(), times.end());
  set_rounds(policy_, times, 7);
  const CompareReport report = compare();
  EXPECT_TRUE(report.policies[1].speed_up_interval->contains(1));
  EXPECT_EQ(report.policies[1].counts, false);
  EXPECT_NE(report.policies[1].note().find("no difference"), std::string::npos);
}

TEST_F(Compare, DriftIsNoted) {
  for (SyntheticRank& rank : policy_.ranks) {
    rank.step_ns.assign(30, 50'000);
  }
  EXPECT_EQ(compare().policies[1].note().find("drift"), std::string::npos);
  std::filesystem::remove_all(folder_.path() / "a_dual");
  std::filesystem::remove_all(folder_.path() / "b_sequential");
  for (SyntheticRank& rank : policy_.ranks) {
    for (std::size_t i = 0; i < rank.step_ns.size(); ++i) {
      rank.step_ns[i] += static_cast<std::int64_t>(200 * i);
    }
  }
  const auto report = compare();
  EXPECT_NE(report.policies[1].note().find("drift: step times grow by 11."), std::string::npos)
      << report.policies[1].note();
  const auto json = to_json(report).at("policies").at(1).at("drift");
  EXPECT_EQ(json.at("run").at("matters"), true);
  EXPECT_TRUE(json.at("rounds").is_null());
}

}  // namespace
}  // namespace dovetail
