#include "framework/compare/compare.hpp"

#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/compare/summary.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/compare/compare_fixture.hpp"

namespace dovetail {
namespace {

void set_link(SyntheticRun& run, const std::string& link) {
  for (SyntheticRank& rank : run.ranks) {
    rank.link = link;
  }
}

TEST_F(Compare, ALineAboveTheTableNamesAnEmulatedLink) {
  EXPECT_EQ(to_text(compare()).find("Link"), std::string::npos);
}

TEST_F(Compare, OneLineWhereAllPoliciesHadTheSameLink) {
  set_link(baseline_, "emulated: 20 us, 1 GB/s");
  set_link(policy_, "emulated: 20 us, 1 GB/s");
  const CompareReport report = compare();
  EXPECT_TRUE(to_text(report).starts_with("Link emulated: 20 us, 1 GB/s\nStep time"));
  EXPECT_EQ(to_json(report).at("policies").at(0).at("link"), "emulated: 20 us, 1 GB/s");
}

TEST_F(Compare, ALineForEachPolicyWhereLinksDiffer) {
  set_link(baseline_, "none");
  set_link(policy_, "emulated: 20 us, 1 GB/s");
  const CompareReport report = compare();
  EXPECT_TRUE(to_text(report).starts_with("Link of a_dual emulated: 20 us, 1 GB/s\nStep time"));
  EXPECT_EQ(policy_summary(report.policies[1].result.folder).at("link"), "emulated: 20 us, 1 GB/s");
  EXPECT_EQ(policy_summary(report.policies[0].result.folder).at("link"), "none");
}

TEST_F(Compare, TimesAreOfTheSlowestRankAndTheFirstPolicyIsTheBaseline) {
  const CompareReport report = compare();
  ASSERT_EQ(report.policies.size(), 2U);
  EXPECT_EQ(report.baseline, "b_sequential");
  EXPECT_EQ(report.policies[0].result.name, "b_sequential") << "by start time, not by name";
  EXPECT_EQ(report.policies[0].result.step_ns.count, 3);
  EXPECT_EQ(report.policies[0].result.step_ns.p50, 110'000);
  EXPECT_EQ(report.policies[0].result.step_ns.min, 105'000);
  EXPECT_EQ(report.policies[0].result.step_ns.max, 120'000);
  EXPECT_EQ(*report.policies[0].speed_up, 1);
  EXPECT_EQ(*report.policies[1].speed_up, 2);
  EXPECT_EQ(report.policies[1].result.decisions.num_ubatched, 3);
  EXPECT_TRUE(report.policies[1].notes.empty()) << report.policies[1].note();
  EXPECT_EQ(*compare_policies({folder_.path()}, {"a_dual"}).policies[0].speed_up, 0.5);
}

TEST_F(Compare, MetricsComeFromTheRecordedOpsOnOneClock) {
  const CompareReport report = compare();
  ASSERT_TRUE(report.policies[1].metrics.has_value());
  const PolicyMetrics& metrics = *report.policies[1].metrics;
  const Decomposition& terms = metrics.decomposition;
  EXPECT_EQ(terms.compute, 60'000);
  EXPECT_EQ(terms.split_tax, 11'000);
  EXPECT_EQ(terms.contention, 4'000);
  EXPECT_EQ(terms.exposed_moving, 4'000);
  EXPECT_EQ(terms.exposed_waiting, 1'000);
  EXPECT_EQ(terms.hand_off, 2'500);
  EXPECT_EQ(terms.launch, 3'500);
  EXPECT_EQ(terms.other_idle, 11'000);
  EXPECT_EQ(terms.measured, 55'000);
  EXPECT_EQ(terms.timed_vs_profiled, 55'000 - 100'000);
  EXPECT_EQ(terms.unexplained, 3'000);
  EXPECT_EQ(metrics.ideal_ns, 60'000) << "the baseline's";
  EXPECT_DOUBLE_EQ(*metrics.split_tax_factor, 71.0 / 60);
  EXPECT_EQ(metrics.mean_of_rank[0].waiting_ns, 8'000) << "1 s between the clocks is taken out";
  EXPECT_EQ(metrics.mean_of_rank[1].waiting_ns, 0);
}

TEST_F(Compare, RanksOfOtherReplicasAreNotWaitedFor) {
  policy_.expert_parallel = 1;
  const CompareReport report = compare();
  EXPECT_EQ(report.policies[1].metrics->mean_of_rank[0].waiting_ns, 0);
}

TEST_F(Compare, FailedAndInvalidRunsAreShownAsSuchWithoutTimes) {
  for (const auto& [status, word] :
       std::vector<std::pair<RunStatus, std::string>>{{RunStatus::failed, "failed"},
                                                      {RunStatus::invalid, "invalid"},
                                                      {RunStatus::running, "running"}}) {
    const TemporaryFolder folder;
    policy_.ranks[1].status = status;
    policy_.ranks[1].failure = status == RunStatus::failed ? "boom" : "";
    baseline_.write(folder.path());
    policy_.write(folder.path());
    const CompareReport report = compare_policies({folder.path()});
    const PolicyComparison& policy = report.policies.at(1);
    EXPECT_EQ(policy.result.status, word);
    EXPECT_EQ(policy.result.step_ns.count, 0);
    EXPECT_FALSE(policy.speed_up.has_value());
    EXPECT_FALSE(policy.metrics.has_value());
    EXPECT_EQ(exit_code_of(report), kExitDone) << "the run says itself what is wrong with it";
    EXPECT_NE(policy.note().find("rank 1: status " + word), std::string::npos) << policy.note();
    EXPECT_EQ(to_text(report).find("0.055"), std::string::npos) << "its p50 in ms";
    EXPECT_TRUE(to_json(report).at("policies").at(1).at("step_ns").is_null());
  }
}

TEST_F(Compare, MissingRankAndUnreadableFilesAreShown) {
  policy_.ranks[1].is_missing = true;
  const CompareReport report = compare();
  EXPECT_EQ(report.policies[1].result.status, "incomplete");
  EXPECT_NE(report.policies[1].note().find("rank 1: missing"), std::string::npos);
  std::filesystem::resize_file(folder_.path() / "a_dual" / "rank-00000.h5", 10);
  const CompareReport cut = compare_policies({folder_.path()});
  EXPECT_EQ(cut.policies[1].result.name, "a_dual");
  EXPECT_EQ(cut.policies[1].result.status, "unreadable");
  EXPECT_NE(cut.policies[1].note().find("rank-00000.h5"), std::string::npos);
  for (const auto& one : {report, cut}) {
    EXPECT_EQ(exit_code_of(one), kExitBadInput);
    EXPECT_NE(to_text(one).find("\nNot read whole: a_dual; files are missing or damaged"),
              std::string::npos)
        << to_text(one);
    EXPECT_EQ(one.policies[0].result.step_ns.p50, 110'000) << "the others are compared";
  }
}

TEST_F(Compare, AFailedBaselineGivesNoSpeedUp) {
  baseline_.ranks[0].status = RunStatus::failed;
  const CompareReport report = compare();
  EXPECT_FALSE(report.policies[1].speed_up.has_value());
  EXPECT_EQ(report.policies[1].note(), "no speed-up: the baseline has no times");
  EXPECT_EQ(report.policies[1].result.step_ns.p50, 55'000);
  ASSERT_TRUE(report.policies[1].metrics.has_value());
  EXPECT_EQ(report.policies[1].metrics->decomposition.split_tax, 0);
}

TEST_F(Compare, OtherInputsGiveNoSpeedUp) {
  for (SyntheticRank& rank : policy_.ranks) {
    rank.inputs_digest = "others";
  }
  const CompareReport report = compare();
  EXPECT_FALSE(report.policies[1].speed_up.has_value());
  EXPECT_NE(report.policies[1].note().find("other weights or inputs"), std::string::npos);
}

TEST_F(Compare, VetoedStepsAreMarkedWithTheReasonCounts) {
  for (SyntheticRank& rank : policy_.ranks) {
    rank.decision = {.ubatched = 0,
                     .reason = static_cast<std::int64_t>(VetoReason::below_threshold),
                     .veto_rank = 1};
  }
  const CompareReport report = compare();
  EXPECT_EQ(report.policies[1].note(), "vetoed in 3 of 3 steps: below_threshold x 3");
  EXPECT_EQ(report.policies[1].result.decisions.num_ubatched, 0);
  EXPECT_NE(to_text(report).find("below_threshold x 3"), std::string::npos);
}

TEST_F(Compare, ARunThatEndedEarlyHasNoHole) {
  for (SyntheticRank& rank : policy_.ranks) {
    rank.step_ns.resize(8, -1);
    rank.timed_hashes.resize(3);
  }
  policy_.iterations_run = 3;
  const auto report = compare();
  EXPECT_EQ(report.policies[1].note(), "precise enough after 3 of 8 iterations");
  EXPECT_EQ(exit_code_of(report), kExitDone);
  const auto json = to_json(report).at("policies").at(1);
  EXPECT_EQ(json.at("ended_early"), true);
  EXPECT_EQ(json.at("most_iterations"), 8);
  EXPECT_EQ(json.at("step_ns").at("count"), 3);
  const auto verified = verify_policies(folder_.path() / "b_sequential", folder_.path() / "a_dual");
  EXPECT_EQ(verified.verdict, Verdict::verified) << to_text(verified);
}

/// The twin of the above.
TEST_F(Compare, RowsThatAreMissingWithoutAWordAreAHole) {
  for (SyntheticRank& rank : policy_.ranks) {
    rank.step_ns.resize(8, -1);
    rank.timed_hashes.resize(3);
  }
  const auto report = compare();
  EXPECT_NE(report.policies[1].note().find("5 of 8 timed steps have no time"), std::string::npos);
  const auto verified = verify_policies(folder_.path() / "b_sequential", folder_.path() / "a_dual");
  EXPECT_EQ(verified.verdict, Verdict::not_comparable) << to_text(verified);
}

TEST_F(Compare, TimesBehindTheLastIterationAreRefused) {
  policy_.iterations_run = 2;
  const auto report = compare();
  EXPECT_NE(
      report.policies[1].note().find("/timing/step_ns has times behind iteration 2, the last"),
      std::string::npos)
      << report.policies[1].note();
  EXPECT_EQ(exit_code_of(report), kExitBadInput);
}

TEST_F(Compare, UnfinishedStepsAreLeftOut) {
  policy_.ranks[1].step_ns[2] = -1;
  EXPECT_EQ(compare().policies[1].result.step_ns.count, 2);
}

TEST_F(Compare, AHoleInTheTimesOfACompleteFileIsNamed) {
  EXPECT_EQ(exit_code_of(compare()), kExitDone);
  std::filesystem::remove_all(folder_.path() / "a_dual");
  std::filesystem::remove_all(folder_.path() / "b_sequential");
  policy_.ranks[0].step_ns[2] = -1;
  policy_.ranks[1].step_ns[1] = -1;
  const CompareReport report = compare();
  EXPECT_EQ(report.policies[1].note(),
            "2 of 3 timed steps have no time (the first: rank 1, step 1)");
  EXPECT_EQ(to_json(report).at("policies").at(1).at("note"), report.policies[1].note());
  EXPECT_EQ(report.policies[1].result.step_ns.count, 1);
  EXPECT_EQ(exit_code_of(report), kExitBadInput);
  EXPECT_NE(to_text(report).find("\nNot read whole: a_dual;"), std::string::npos);
}

TEST_F(Compare, RefusesWhatIsNotThere) {
  compare();
  EXPECT_THROW(compare_policies({}), InputError);
  EXPECT_THROW(compare_policies({folder_.path() / "none"}), InputError);
  std::filesystem::create_directory(folder_.path() / "empty");
  EXPECT_THROW(compare_policies({folder_.path() / "empty"}), InputError);
  EXPECT_EQ(testing::input_error_of([&] { compare_policies({folder_.path()}, {"triple"}); }),
            "no policy 'triple' to compare with; there are: b_sequential, a_dual");
}

/// A file that claims more experts than there are is named; nothing is made room for.
TEST_F(Compare, FirstExpertBeyondTheExpertsIsRefused) {
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  for (const std::int64_t first :
       {most, std::int64_t{1} << 40, std::int64_t{3}, std::int64_t{-1}}) {
    compare();
    const auto path = folder_.path() / "a_dual" / "rank-00001.h5";
    hdf5::File::open(path.string(), hdf5::Access::read_write)
        .update_attribute(path::kTraffic, {attribute::kFirstExpert, first});
    const PolicyResult result = read_policy_result(folder_.path() / "a_dual");
    EXPECT_EQ(result.problem,
              path.string() + ": /traffic: first_expert " + std::to_string(first) +
                  ", but the ranks have 4 experts");
    EXPECT_EQ(result.status, "unreadable");
    EXPECT_EQ(result.step_ns.count, 0) << "times of a result that is not complete";
    std::filesystem::remove_all(folder_.path() / "a_dual");
    std::filesystem::remove_all(folder_.path() / "b_sequential");
  }
}

TEST_F(Compare, RanksWithOtherLayersAreRefused) {
  policy_.ranks[1].tokens_per_expert = {1, 3, 1, 3};
  compare();
  EXPECT_EQ(read_policy_result(folder_.path() / "a_dual").problem,
            (folder_.path() / "a_dual" / "rank-00001.h5").string() +
                ": /traffic: rows of 2 layers against 1 on rank 0");
}

/// Numbers that are no enumerator.
TEST_F(Compare, DecisionsThatAreUnknownAreCounted) {
  for (SyntheticRank& rank : policy_.ranks) {
    rank.decision.graph = 1'000'000'000;
    rank.decision.reason = 1'000'000'000;
    rank.decision.eager_reason = 1'000'000'000;
  }
  compare();
  const nlohmann::json decisions = policy_summary(folder_.path() / "a_dual").at("decisions");
  EXPECT_EQ(decisions.at("graphs"), nlohmann::json::parse(R"({"unknown": 3})"));
  EXPECT_EQ(decisions.at("reasons"), nlohmann::json::parse(R"({"unknown": 3})"));
  EXPECT_EQ(decisions.at("eager_reasons"), nlohmann::json::parse(R"({"unknown": 3})"));
}

}  // namespace
}  // namespace dovetail
