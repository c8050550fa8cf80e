// What the tables of compare say: reasons, notes, graphs, memory.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/compare/compare.hpp"
#include "framework/compare/compare_notes.hpp"
#include "framework/compare/summary.hpp"
#include "tests/unit/compare/compare_fixture.hpp"

namespace dovetail {
namespace {

using Json = nlohmann::json;

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
    sum += term.is_null() ? 0 : term.get<double>();
  }
  EXPECT_DOUBLE_EQ(sum, policy.at("metrics").at("measured_ns").get<double>());
  EXPECT_EQ(policy.at("metrics").at("ranks").size(), 2U);
}

/// Rank 1's clock loses 2 % from when its profiled step begins.
void slow_down(SyntheticRank& rank) {
  auto& profile = rank.profiles.front();
  const auto origin = profile.passes.front().start_ns;
  const auto slow = [origin](std::int64_t& time) { time -= time < 0 ? 0 : (time - origin) / 50; };
  for (auto& pass : profile.passes) {
    slow(pass.start_ns);
    slow(pass.end_ns);
    std::for_each(pass.op_start_ns.begin(), pass.op_start_ns.end(), slow);
    std::for_each(pass.op_end_ns.begin(), pass.op_end_ns.end(), slow);
  }
  std::for_each(profile.enqueued_ns.begin(), profile.enqueued_ns.end(), slow);
}

TEST_F(Compare, DriftOfAClockIsRemovedFromWaiting) {
  const auto waiting = [&] {
    auto metrics = to_json(compare()).at("policies").at(1).at("metrics");
    std::filesystem::remove_all(folder_.path() / "a_dual");
    std::filesystem::remove_all(folder_.path() / "b_sequential");
    return metrics;
  };
  const auto right = waiting();
  EXPECT_EQ(right.at("waiting_bounds_ns"), Json({4000, 4000})) << "8 us of one rank of two";
  auto& rank = policy_.ranks[1];
  const auto origin = rank.profiles.front().passes.front().start_ns;
  slow_down(rank);
  const auto drifting = waiting();
  EXPECT_NEAR(drifting.at("waiting_ns").get<double>(), (7400.0 + 920) / 2, 1)
      << "it seems to come 0.6 us earlier to the first dispatch, and 0.92 us to the second";
  rank.clock = {{origin, rank.clock_offset_ns, 0},
                {origin + 490'000, rank.clock_offset_ns + 10'000, 0}};
  const auto removed = waiting();
  EXPECT_NEAR(removed.at("waiting_ns").get<double>(), 4000, 3);
  EXPECT_NEAR(removed.at("terms_ns").at("exposed_waiting").get<double>(),
              right.at("terms_ns").at("exposed_waiting").get<double>(),
              5);
  rank.clock = {{origin, rank.clock_offset_ns, 1500}};
  const auto unsure = waiting();
  const double exchange =
      unsure.at("waiting_ns").get<double>() + unsure.at("moving_ns").get<double>();
  const double least = (7400.0 - 1500) / 2;
  const double most = (7400.0 + 1500 + 580 + 2420) / 2;  // 580 and 2420 at the second dispatch
  EXPECT_NEAR(unsure.at("waiting_bounds_ns").at(0).get<double>(), least, 1);
  EXPECT_NEAR(unsure.at("waiting_bounds_ns").at(1).get<double>(), most, 1);
  EXPECT_NEAR(unsure.at("moving_bounds_ns").at(0).get<double>(), exchange - most, 1);
  EXPECT_NEAR(unsure.at("moving_bounds_ns").at(1).get<double>(), exchange - least, 1);
}

/// Makes a_dual one that is vetoed, drifts, and whose profiled steps are far from its timed ones.
void disturb(SyntheticRun& run) {
  for (SyntheticRank& rank : run.ranks) {
    rank.step_ns.clear();
    for (std::int64_t i = 0; i < 30; ++i) {
      rank.step_ns.push_back(50'000 + 200 * i);
    }
    rank.decision = {.ubatched = 0,
                     .reason = static_cast<std::int64_t>(VetoReason::below_threshold)};
  }
}

TEST_F(Compare, NotesAreDataToo) {
  disturb(policy_);
  policy_.ranks[1].clock_error_ns = 3000;
  auto report = compare();
  report.policies[1].metrics->decomposition.split_tax = -50'000;
  const auto text = to_text(report);
  const auto json = to_json(report);
  const std::vector<std::string> notes = json.at("notes");
  const auto has = [&](const std::string& begin) {
    return std::any_of(notes.begin(), notes.end(), [&](const std::string& note) {
      return note.rfind(begin, 0) == 0;
    });
  };
  EXPECT_TRUE(has("a_dual: vetoed in 30 of 30 steps"));
  EXPECT_TRUE(has("a_dual: drift: step times grow by"));
  EXPECT_TRUE(has("By the errors of the ranks' clocks"));
  EXPECT_TRUE(has("The p50 differs by "));
  EXPECT_TRUE(has("Not quiet: in a_dual split tax or contention"));
  for (const std::string& note : notes) {
    const bool is_of_a_policy = note.rfind("a_dual: ", 0) == 0;
    EXPECT_NE(text.find(is_of_a_policy ? note.substr(8) : "\n" + note + "\n"), std::string::npos)
        << note;
  }
  const auto& flags = json.at("policies").at(1).at("flags");
  EXPECT_EQ(flags, Json({"drift", "unexplained", "timed_vs_profiled", "not_quiet", "below_ideal"}))
      << flags;
  EXPECT_EQ(json.at("policies").at(0).at("note"), "") << "of the other policy";
}

TEST(CompareNotes, ChanceClaimsOneDifferenceInTwentyComparisons) {
  EXPECT_EQ(chance_line(0), "");
  EXPECT_EQ(chance_line(1), "") << "its own interval says it";
  EXPECT_EQ(
      chance_line(9),
      "9 comparisons, each right in 95 of 100 runs: were all policies equally fast, one false "
      "difference in 2.2 such runs would be expected by chance\n");
  EXPECT_NE(chance_line(40).find("2.0 false differences in each such run"), std::string::npos);
}

/// Those that may claim a difference: neither the baseline itself nor what is over steps.
TEST_F(Compare, CountsItsComparisons) {
  auto report = compare();
  report.policies.push_back(report.policies[1]);
  report.policies.push_back(report.policies[1]);
  EXPECT_EQ(to_text(report).find("by chance"), std::string::npos);
  for (const std::size_t policy : {1U, 2U}) {
    report.policies[policy].counts = policy == 1;
  }
  EXPECT_NE(to_text(report).find("\n2 comparisons, each right"), std::string::npos);
  const std::vector<std::string> notes = to_json(report).at("notes");
  EXPECT_EQ(std::count_if(notes.begin(),
                          notes.end(),
                          [](const std::string& note) {
                            return note.rfind("2 comparisons, each right", 0) == 0 &&
                                   !note.ends_with("\n");
                          }),
            1);
}

/// Its own, without those of the baseline and without advice on what to run again.
TEST_F(Compare, ASummaryHasTheNotesOfItsPolicy) {
  disturb(policy_);
  for (SyntheticRank& rank : policy_.ranks) {
    rank.profiles.clear();
  }
  baseline_.write(folder_.path());
  policy_.write(folder_.path());
  const auto summary =
      policy_summary(folder_.path() / "a_dual", {.baseline_dir = folder_.path() / "b_sequential"});
  const std::vector<std::string> notes = summary.at("notes");
  ASSERT_EQ(notes.size(), 2U) << summary.at("notes");
  EXPECT_EQ(notes[0].rfind("a_dual: vetoed in 30 of 30 steps", 0), 0U);
  EXPECT_EQ(notes[1].rfind("a_dual: drift: ", 0), 0U);
  EXPECT_EQ(summary.at("flags"), Json({"drift"}));
}

TEST_F(Compare, SaysHowWellWaitingIsKnown) {
  EXPECT_EQ(to_text(compare()).find("errors of the ranks' clocks"), std::string::npos);
  std::filesystem::remove_all(folder_.path() / "a_dual");
  std::filesystem::remove_all(folder_.path() / "b_sequential");
  policy_.ranks[1].clock_error_ns = 3000;
  const auto text = to_text(compare());
  EXPECT_NE(text.find("By the errors of the ranks' clocks, times of waiting are known to 0.00"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find(" ms (a_dual), times of moving likewise."), std::string::npos) << text;
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
    terms.unexplained = share * terms.measured;
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
  report.policies[1].notes = {std::string(280, 'x')};
  const auto text = to_text(report);
  EXPECT_NE(text.find("\nnote: a_dual: " + report.policies[1].note() + "\n"), std::string::npos)
      << text;
  EXPECT_EQ(width_of(text), width_of(without));
  EXPECT_EQ(without.find("note: "), std::string::npos) << without;
}

TEST_F(Compare, AProfileWithoutAllPassesIsNotDecomposed) {
  policy_.ranks[0].profiles[0].passes.pop_back();
  EXPECT_FALSE(compare().policies[1].metrics.has_value());
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
  EXPECT_EQ(report.policies[1].note(), "on cuda NVIDIA H200, the baseline on cpu");
  EXPECT_TRUE(report.policies[0].notes.empty());
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
  EXPECT_TRUE(report.policies[1].notes.empty()) << report.policies[1].note();
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

}  // namespace
}  // namespace dovetail
