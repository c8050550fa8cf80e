#include "framework/compare/compare.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/compare/summary.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/compare/synthetic_run.hpp"

namespace dovetail {
namespace {

SyntheticRun timed_run(const std::string& policy, const std::string& started_at) {
  SyntheticRun run = make_synthetic_run(2, policy);
  run.started_at = started_at;
  add_synthetic_profile(run);
  return run;
}

/// A run folder with "b_sequential" (first by time), "a_dual" (first by name).
class Compare : public ::testing::Test {
 protected:
  void SetUp() override {
    baseline_ = timed_run("b_sequential", "2025-01-01T00:00:00Z");
    baseline_.ranks[0].step_ns = {100'000, 120'000, 110'000};
    baseline_.ranks[1].step_ns = {105'000, 115'000, 90'000};
    // The baseline's compute alone takes 60 us rather than 71.
    for (SyntheticRank& rank : baseline_.ranks) {
      rank.profiles[0].passes[1].op_end_ns[4] -= 11'000;
    }
    policy_ = timed_run("a_dual", "2025-01-01T00:01:00Z");
    for (SyntheticRank& rank : policy_.ranks) {
      rank.step_ns = {50'000, 55'000, 60'000};
      rank.decision.ubatched = 1;
    }
  }

  CompareReport compare(const CompareOptions& options = {}) {
    baseline_.write(folder_.path());
    policy_.write(folder_.path());
    return compare_policies({folder_.path()}, options);
  }

  TemporaryFolder folder_;
  SyntheticRun baseline_;
  SyntheticRun policy_;
};

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
  EXPECT_TRUE(report.policies[1].note.empty()) << report.policies[1].note;
  EXPECT_EQ(*compare_policies({folder_.path()}, {"a_dual"}).policies[0].speed_up, 0.5);
}

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
  EXPECT_TRUE(report.policies[1].note.empty()) << report.policies[1].note;
  EXPECT_EQ(to_json(report).at("policies").at(1).at("speed_up_interval").at(0), interval->low);
  EXPECT_EQ(policy_summary(folder_.path() / "a_dual",
                           {.baseline_dir = folder_.path() / "b_sequential", .verification = {}})
                .at("speed_up_interval")
                .at(1),
            interval->high);
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
  EXPECT_EQ(json.at("rounds_ns").at("p50").size(), 5U);
  EXPECT_EQ(json.at("rounds_ns").at("began_ns"), 7);
}

TEST_F(Compare, RoundsOfTwoRunsAreNot) {
  set_rounds(baseline_, drifting(110'000), 7);
  set_rounds(policy_, drifting(100'000), 8);
  const CompareReport report = compare();
  EXPECT_NEAR(*report.policies[1].speed_up, 1.1, 1e-3);
  EXPECT_EQ(report.policies[1].counts, false);
  EXPECT_NE(report.policies[1].note.find("no difference"), std::string::npos);
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
  for (SyntheticRun* run : {&baseline_, &policy_}) {
    for (SyntheticRank& rank : run->ranks) {
      rank.step_ns = scattered(100'000, run == &policy_ ? 31 : 33);
    }
  }
  const CompareReport report = compare();
  EXPECT_TRUE(report.policies[1].speed_up_interval->contains(1));
  EXPECT_NE(report.policies[1].note.find("no difference"), std::string::npos);
}

TEST_F(Compare, MetricsComeFromTheRecordedOpsOnOneClock) {
  const CompareReport report = compare();
  ASSERT_TRUE(report.policies[1].metrics.has_value());
  const PolicyMetrics& metrics = *report.policies[1].metrics;
  const Decomposition& terms = metrics.decomposition;
  EXPECT_EQ(terms.compute, 60'000);
  EXPECT_EQ(terms.split_tax, 11'000);
  EXPECT_EQ(terms.contention, 7'000);
  EXPECT_EQ(terms.exposed_moving, 4'000);
  EXPECT_EQ(terms.exposed_waiting, 2'000);
  EXPECT_EQ(terms.hand_off, 2'000);
  EXPECT_EQ(terms.launch, 3'000);
  EXPECT_EQ(terms.other_idle, 11'000);
  EXPECT_EQ(terms.measured, 55'000);
  EXPECT_EQ(terms.residual, -45'000);
  EXPECT_EQ(metrics.ideal_ns, 71'000);
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
    EXPECT_NE(policy.note.find("rank 1: status " + word), std::string::npos) << policy.note;
    EXPECT_EQ(to_text(report).find("0.055"), std::string::npos) << "its p50 in ms";
    EXPECT_TRUE(to_json(report).at("policies").at(1).at("step_ns").is_null());
  }
}

TEST_F(Compare, MissingRankAndUnreadableFilesAreShown) {
  policy_.ranks[1].is_missing = true;
  const CompareReport report = compare();
  EXPECT_EQ(report.policies[1].result.status, "incomplete");
  EXPECT_NE(report.policies[1].note.find("rank 1: missing"), std::string::npos);
  std::filesystem::resize_file(folder_.path() / "a_dual" / "rank-00000.h5", 10);
  const CompareReport cut = compare_policies({folder_.path()});
  EXPECT_EQ(cut.policies[1].result.name, "a_dual");
  EXPECT_EQ(cut.policies[1].result.status, "unreadable");
  EXPECT_NE(cut.policies[1].note.find("rank-00000.h5"), std::string::npos);
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
  EXPECT_EQ(report.policies[1].note, "no speed-up: the baseline has no times");
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
  EXPECT_NE(report.policies[1].note.find("other weights or inputs"), std::string::npos);
}

TEST_F(Compare, VetoedStepsAreMarkedWithTheReasonCounts) {
  for (SyntheticRank& rank : policy_.ranks) {
    rank.decision = {.ubatched = 0,
                     .reason = static_cast<std::int64_t>(VetoReason::below_threshold),
                     .veto_rank = 1};
  }
  const CompareReport report = compare();
  EXPECT_EQ(report.policies[1].note, "vetoed in 3 of 3 steps: below_threshold x 3");
  EXPECT_EQ(report.policies[1].result.decisions.num_ubatched, 0);
  EXPECT_NE(to_text(report).find("below_threshold x 3"), std::string::npos);
}

TEST_F(Compare, DriftIsNoted) {
  for (SyntheticRank& rank : policy_.ranks) {
    rank.step_ns.assign(30, 50'000);
  }
  EXPECT_EQ(compare().policies[1].note.find("drift"), std::string::npos);
  std::filesystem::remove_all(folder_.path() / "a_dual");
  std::filesystem::remove_all(folder_.path() / "b_sequential");
  for (SyntheticRank& rank : policy_.ranks) {
    for (std::size_t i = 0; i < rank.step_ns.size(); ++i) {
      rank.step_ns[i] += static_cast<std::int64_t>(200 * i);
    }
  }
  const auto report = compare();
  EXPECT_NE(report.policies[1].note.find("drift: step times grow by 11."), std::string::npos)
      << report.policies[1].note;
  const auto json = to_json(report).at("policies").at(1).at("drift");
  EXPECT_EQ(json.at("run").at("matters"), true);
  EXPECT_TRUE(json.at("rounds").is_null());
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
  EXPECT_EQ(report.policies[1].note, "2 of 3 timed steps have no time (the first: rank 1, step 1)");
  EXPECT_EQ(to_json(report).at("policies").at(1).at("note"), report.policies[1].note);
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

TEST_F(Compare, PrintsTablesAndJson) {
  const CompareReport report = compare();
  const std::string text = to_text(report);
  for (const char* part : {"speed-up", "2.00", "split tax", "0.011", "hidden", "84.0 %"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
  const nlohmann::json json = nlohmann::json::parse(to_json(report).dump());
  const auto& policy = json.at("policies").at(1);
  EXPECT_EQ(policy.at("speed_up"), 2);
  double sum = 0;
  for (const auto& term : policy.at("metrics").at("terms_ns")) {
    sum += term.get<double>();
  }
  EXPECT_DOUBLE_EQ(sum, policy.at("metrics").at("measured_ns").get<double>());
  EXPECT_EQ(policy.at("metrics").at("ranks").size(), 2U);
}

TEST_F(Compare, WithoutProfiledIterationsThereAreTimesOnly) {
  for (SyntheticRank& rank : policy_.ranks) {
    rank.profiles.clear();
  }
  const CompareReport report = compare();
  EXPECT_TRUE(report.policies[1].speed_up.has_value());
  EXPECT_FALSE(report.policies[1].metrics.has_value());
}

TEST_F(Compare, WhereReasonsAreMissingItSaysHowToGetThem) {
  const std::string hint = ": no op was timed. To time ops, run again with --set record.timing=ops";
  const auto write_and_print = [&](const std::string& run) {
    baseline_.write(folder_.path() / run);
    policy_.write(folder_.path() / run);
    return to_text(compare_policies({folder_.path() / run}));
  };
  const auto forget = [](SyntheticRun& run) {
    for (SyntheticRank& rank : run.ranks) {
      rank.profiles.clear();
    }
  };
  const std::string whole = write_and_print("whole");
  EXPECT_EQ(whole.find(hint), std::string::npos) << whole;
  EXPECT_NE(whole.find("Not in the step time: agreement"), std::string::npos) << whole;
  forget(policy_);
  const std::string part = write_and_print("part");
  EXPECT_NE(part.find("not known of a_dual" + hint), std::string::npos) << part;
  forget(baseline_);
  const std::string none = write_and_print("none");
  EXPECT_NE(none.find("not known of b_sequential, a_dual" + hint), std::string::npos) << none;
  EXPECT_EQ(none.find("split tax"), std::string::npos);
}

TEST_F(Compare, ItSaysWhereTheTermsExplainNothing) {
  auto report = compare();
  auto& policy = report.policies[1];
  auto& terms = policy.metrics->decomposition;
  policy.speed_up = 1.25;  // a quarter of the step time is to be explained
  for (const double share : {-0.3, -0.2, 0.2, 0.3}) {
    terms.residual = share * terms.measured;
    const auto text = to_text(report);
    EXPECT_EQ(text.find("Not explained: in " + policy.result.name) != std::string::npos,
              std::abs(share) > 0.25)
        << share << "\n"
        << text;
  }
}

TEST_F(Compare, ItSaysWhereACostBelowZeroShowsADisturbedBaseline) {
  auto report = compare();
  auto& policy = report.policies[1];
  const std::string warning = "Not quiet: in " + policy.result.name;
  auto& terms = policy.metrics->decomposition;
  for (double* term : {&terms.split_tax, &terms.contention}) {
    terms.split_tax = terms.contention = 0;
    for (const double share : {-0.06, -0.04, 0.06}) {
      *term = share * terms.compute;
      const auto text = to_text(report);
      EXPECT_EQ(text.find(warning) != std::string::npos, share == -0.06) << share << "\n" << text;
    }
  }
}

TEST_F(Compare, NotesStandBelowTheTable) {
  auto report = compare();
  const auto width_of = [](const std::string& text) {
    const auto rule = text.find("\n---");
    return text.find('\n', rule + 1) - rule;
  };
  const auto without = to_text(report);
  report.policies[1].note = std::string(280, 'x');
  const auto text = to_text(report);
  EXPECT_NE(text.find("\nnote: a_dual: " + report.policies[1].note + "\n"), std::string::npos)
      << text;
  EXPECT_EQ(width_of(text), width_of(without));
  EXPECT_EQ(without.find("note: "), std::string::npos) << without;
}

TEST_F(Compare, AProfileWithoutAllPassesIsNotDecomposed) {
  policy_.ranks[0].profiles[0].passes.pop_back();
  EXPECT_FALSE(compare().policies[1].metrics.has_value());
}

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
  compare();
  const auto own = folder_.path() / "b_sequential";
  const nlohmann::json json = policy_summary(own, {.baseline_dir = own});
  EXPECT_EQ(json.at("speed_up"), 1);
  EXPECT_EQ(json.at("metrics").at("split_tax_factor"), 1);
  EXPECT_EQ(json.at("metrics").at("comm_split_factor"), 1);
  EXPECT_EQ(json.at("metrics").at("terms_ns").at("split_tax"), 0);
  EXPECT_TRUE(policy_summary(own).at("metrics").at("split_tax_factor").is_null());
}

/// Two GPUs: 2 of 3 steps as graphs, memory of the fullest rank, the host's share.
TEST_F(Compare, GraphsMemoryAndTheHostsShareOfGpus) {
  for (std::size_t rank = 0; rank < 2; ++rank) {
    SyntheticRank& own = policy_.ranks[rank];
    own.device = "cuda:" + std::to_string(rank) + " NVIDIA H200";
    own.step_ns = {1000, 1000, 1000};
    own.enqueue_ns = rank == 0 ? std::vector<std::int64_t>{100, 200, 300}
                               : std::vector<std::int64_t>{400, 500, -1};
    own.decision.graph = static_cast<std::int64_t>(GraphMode::full);
    own.decision.eager_reason = static_cast<std::int64_t>(EagerReason::none);
    own.graphs.captures = 1;
    own.graphs.replays = 7;
    own.graphs.eager(EagerReason::warm_up) = 2;
    const std::int64_t gib = std::int64_t{1} << 30;
    own.memory = {.peak_reserved = rank == 0 ? 9 * gib : 8 * gib,
                  .peak_allocated = rank == 0 ? 6 * gib : 7 * gib,
                  .weights = gib,
                  .cache = rank == 0 ? 2 * gib : 3 * gib,
                  .exchange = gib / 2};
  }
  const CompareReport report = compare();
  const PolicyResult& result = report.policies[1].result;
  EXPECT_EQ(result.device, "cuda NVIDIA H200");
  EXPECT_EQ(result.decisions.describe_graphs(), "full x 3");
  EXPECT_DOUBLE_EQ(result.host_share.value_or(-1), 0.3) << "of 0.1 to 0.5; one is not known";
  EXPECT_EQ(result.owned_bytes, 4.5 * (1LL << 30)) << "of rank 1";
  EXPECT_EQ(report.policies[1].note, "on cuda NVIDIA H200, the baseline on cpu");
  EXPECT_TRUE(report.policies[0].note.empty());
  EXPECT_TRUE(report.policies[1].speed_up.has_value());
  const std::string text = to_text(report);
  for (const char* part : {"host share", "30.0 %", "full x 3", "9.00", "7.00", "4.50"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
  const auto json = to_json(report).at("policies").at(1);
  EXPECT_EQ(json.at("graphs").at("replays"), 7);
  EXPECT_EQ(json.at("memory").at("peak_reserved_bytes"), 9LL << 30);
  const nlohmann::json summary = policy_summary(folder_.path() / "a_dual");
  EXPECT_EQ(summary.at("device"), "cuda NVIDIA H200");
  EXPECT_EQ(summary.at("decisions").at("graphs"), nlohmann::json::parse(R"({"full": 3})"));
  EXPECT_EQ(summary.at("decisions").at("eager_reasons"), nlohmann::json::object());
  EXPECT_EQ(summary.at("graphs").at("captures"), 1);
  EXPECT_EQ(summary.at("graphs").at("eager_reasons"), nlohmann::json::parse(R"({"warm_up": 2})"));
  EXPECT_EQ(summary.at("memory").at("cache_bytes"), 3LL << 30);
  EXPECT_DOUBLE_EQ(summary.at("host_share").get<double>(), 0.3);
}

TEST_F(Compare, OnTheCpuThereIsNoTableOfDevices) {
  policy_.ranks[0].decision.captured = 1;
  const CompareReport report = compare();
  const std::string text = to_text(report);
  EXPECT_EQ(text.find("host share"), std::string::npos) << text;
  EXPECT_TRUE(report.policies[1].note.empty()) << report.policies[1].note;
  const nlohmann::json summary = policy_summary(folder_.path() / "a_dual");
  EXPECT_TRUE(summary.at("host_share").is_null());
  EXPECT_TRUE(summary.at("memory").at("owned_bytes").is_null());
  EXPECT_EQ(summary.at("decisions").at("graphs"), nlohmann::json::parse(R"({"none": 3})"));
  EXPECT_EQ(summary.at("decisions").at("eager_reasons"), nlohmann::json::object());
  EXPECT_EQ(summary.at("decisions").at("captured"), 3);
}

TEST(DeviceKind, IsTheDeviceWithoutItsNumber) {
  EXPECT_EQ(device_kind("cpu"), "cpu");
  EXPECT_EQ(device_kind("cuda:0"), "cuda");
  EXPECT_EQ(device_kind("cuda:12 NVIDIA H200"), "cuda NVIDIA H200");
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
