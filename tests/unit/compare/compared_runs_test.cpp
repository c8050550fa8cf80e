// `compare` of several runs: each against its own baseline, or all against one that is named.
#include "framework/compare/compared_runs.hpp"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/compare/compare.hpp"
#include "framework/record/run_folder.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/compare/synthetic_run.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;
using testing::input_error_of;

/// Two runs with policies of the same names; those of "b" are twice as slow.
class SeveralRuns : public ::testing::Test {
 protected:
  SeveralRuns() : a_(folder_.path() / "a"), b_(folder_.path() / "b") {
    write(a_, "sequential", 100'000);
    write(a_, "dual_batch", 50'000);
    write(b_, "sequential", 200'000);
    write(b_, "dual_batch", 160'000);
  }

  static void write(const fs::path& run, const std::string& policy, std::int64_t step_ns) {
    SyntheticRun own = make_synthetic_run(2, policy);
    own.started_at = policy == "sequential" ? "2025-01-01T00:00:00Z" : "2025-01-01T00:01:00Z";
    add_synthetic_profile(own);
    for (SyntheticRank& rank : own.ranks) {
      rank.step_ns = {step_ns, step_ns, step_ns};
      // What compute alone takes differs from policy to policy and from run to run.
      rank.profiles[0].passes[1].op_end_ns[4] -= step_ns / 20;
    }
    own.write(run);
  }

  TemporaryFolder folder_;
  fs::path a_;
  fs::path b_;
};

double speed_up(const CompareReport& report, std::size_t policy) {
  return report.policies.at(policy).speed_up.value_or(-1);
}

/// What is said of a policy, but for the labels that tell runs apart.
nlohmann::json said_of(const CompareReport& report, std::size_t policy) {
  auto json = to_json(report).at("policies").at(policy);
  json.erase("run");
  json.erase("baseline");
  return json;
}

TEST_F(SeveralRuns, EachIsComparedWithItsOwnBaseline) {
  const CompareReport report = compare_policies({a_, b_});
  ASSERT_EQ(report.policies.size(), 4U);
  EXPECT_EQ(speed_up(report, 0), 1);
  EXPECT_EQ(speed_up(report, 1), 2);
  EXPECT_EQ(speed_up(report, 2), 1);
  EXPECT_EQ(speed_up(report, 3), 1.25);
  EXPECT_EQ(report.policies[1].run, "a");
  EXPECT_EQ(report.policies[3].run, "b");
  EXPECT_EQ(report.policies[3].baseline, "b/sequential");
}

TEST_F(SeveralRuns, WhatARunHasFoundWrongHasNoTimes) {
  const auto write_summary = [](const fs::path& folder, const std::string& text) {
    std::ofstream(folder / kSummaryFileName) << text;
  };
  write_summary(b_ / "dual_batch",
                R"({"timings": "invalid", "fault": "flipped_element",
                    "verification": {"verdict": "mismatch", "problems": ["hidden: row error"]}})");
  const CompareReport report = compare_policies({b_});
  EXPECT_EQ(speed_up(report, 1), -1);
  EXPECT_FALSE(report.policies[1].metrics.has_value());
  EXPECT_EQ(report.policies[1].result.status, "mismatch");
  EXPECT_EQ(report.policies[1].note(),
            "does not equal its baseline, or itself: hidden: row error; no measurement: fault "
            "flipped_element");
  EXPECT_TRUE(to_json(report).at("policies").at(1).at("step_ns").is_null());
  // A baseline that is wrong is no measure, also where it is named.
  write_summary(a_ / "sequential",
                R"({"timings": "invalid", "not_finite": {"text": "hidden of rank 1 is nan"}})");
  const CompareReport named = compare_policies({b_}, {.baseline = (a_ / "sequential").string()});
  EXPECT_EQ(speed_up(named, 0), -1);
  EXPECT_EQ(compare_policies({a_}).policies[0].note(), "not finite: hidden of rank 1 is nan");
  // Twins: what was found right, or cannot be read, changes nothing.
  for (const char* text :
       {R"({"timings": "valid", "not_finite": null, "fault": "none"})", "{", "[]"}) {
    write_summary(b_ / "dual_batch", text);
    EXPECT_EQ(speed_up(compare_policies({b_}), 1), 1.25) << text;
    EXPECT_EQ(compare_policies({b_}).policies[1].note(), "") << text;
  }
}

TEST_F(SeveralRuns, WhatIsSaidOfARunDoesNotDependOnItsCompany) {
  const CompareReport alone = compare_policies({b_});
  const CompareReport behind = compare_policies({a_, b_});
  const CompareReport before = compare_policies({b_, a_});
  for (const std::size_t policy : {0U, 1U}) {
    EXPECT_EQ(said_of(alone, policy), said_of(behind, 2 + policy));
    EXPECT_EQ(said_of(alone, policy), said_of(before, policy));
  }
  // The test would notice: against the baseline of the other run the terms are others.
  const auto against_a = compare_policies({b_}, {.baseline = (a_ / "sequential").string()});
  EXPECT_NE(said_of(alone, 1).at("metrics"), said_of(against_a, 1).at("metrics"));
}

TEST_F(SeveralRuns, OneBaselineCanBeNamedForAll) {
  const auto baseline = (a_ / "sequential").string();
  const CompareReport report = compare_policies({a_, b_}, {.baseline = baseline});
  EXPECT_EQ(speed_up(report, 1), 2);
  EXPECT_EQ(speed_up(report, 2), 0.5);
  EXPECT_EQ(speed_up(report, 3), 0.625);
  EXPECT_EQ(report.policies[3].baseline, "a/sequential");
  // It need not be among the runs that are shown.
  const CompareReport other = compare_policies({b_}, {.baseline = baseline});
  ASSERT_EQ(other.policies.size(), 2U);
  EXPECT_EQ(speed_up(other, 1), 0.625);
  EXPECT_TRUE(other.has_several_runs);
  EXPECT_EQ(other.policies[0].run, "b");
  EXPECT_EQ(other.policies[0].baseline, "a/sequential");
}

TEST_F(SeveralRuns, ANameMeansThePolicyOfEachRun) {
  const CompareReport report = compare_policies({a_, b_}, {.baseline = "dual_batch"});
  EXPECT_EQ(speed_up(report, 0), 0.5);
  EXPECT_EQ(speed_up(report, 2), 0.8);
  fs::remove_all(b_ / "dual_batch");
  EXPECT_EQ(input_error_of([&] {
              compare_policies({a_, b_}, {.baseline = "dual_batch"});
            }),
            b_.string() + ": no policy 'dual_batch' to compare with; there are: sequential");
  EXPECT_NE(input_error_of([&] {
              compare_policies({a_}, {.baseline = "a/none"});
            }).find("--baseline a/none: no such folder"),
            std::string::npos);
}

TEST_F(SeveralRuns, TheBaselineCanBeNamedAsTheTablesNameIt) {
  const CompareReport before = compare_policies({a_, b_});
  EXPECT_EQ(before.policies[3].baseline, "b/sequential");
  const CompareReport report =
      compare_policies({a_, b_}, {.baseline = before.policies[3].baseline});
  EXPECT_EQ(speed_up(report, 1), 4);
  EXPECT_EQ(speed_up(report, 3), 1.25);
  EXPECT_EQ(report.policies[1].baseline, "b/sequential");
  EXPECT_EQ(
      input_error_of([&] { compare_policies({b_}, {.baseline = "a/sequential"}); }),
      "--baseline a/sequential: no such folder, and no policy of that label; allowed: the name "
      "of a policy, a label (b/sequential, b/dual_batch), or the path of the folder of a "
      "policy");
}

TEST_F(SeveralRuns, ALabelOfSeveralPoliciesIsRefused) {
  const auto old_a = folder_.path() / "old" / "a";
  write(old_a, "sequential", 400'000);
  EXPECT_EQ(input_error_of([&] {
              compare_policies({a_, old_a}, {.baseline = "a/sequential"});
            }),
            "--baseline a/sequential: may be any of " + fs::canonical(a_ / "sequential").string() +
                ", " + fs::canonical(old_a / "sequential").string() +
                "; allowed: as much of the path as tells it from the others");
  const CompareReport report = compare_policies({a_, old_a}, {.baseline = "old/a/sequential"});
  EXPECT_EQ(speed_up(report, 1), 8);
  // A path that a label hides is still there to be named.
  const auto path = fs::relative(a_ / "sequential").string();
  EXPECT_EQ(speed_up(compare_policies({a_, old_a}, {.baseline = path}), 1), 2);
}

TEST_F(SeveralRuns, RunsAreColumnsOnlyWhereThereAreSeveral) {
  const std::string both = to_text(compare_policies({a_, b_}));
  EXPECT_NE(both.find("run  policy      baseline      status"), std::string::npos) << both;
  EXPECT_NE(both.find("b    dual_batch  b/sequential  complete"), std::string::npos) << both;
  EXPECT_NE(both.find("run  policy [ms]  compute"), std::string::npos) << both;
  const std::string one = to_text(compare_policies({b_}));
  EXPECT_EQ(one.find("run  "), std::string::npos) << one;
  EXPECT_NE(one.find("Baseline: sequential\npolicy      status"), std::string::npos) << one;
}

TEST_F(SeveralRuns, PolicyFoldersAreComparedWithTheFirstOfThem) {
  const CompareReport report = compare_policies({a_ / "sequential", b_ / "dual_batch"});
  EXPECT_EQ(speed_up(report, 1), 0.625);
  EXPECT_EQ(report.policies[1].baseline, "a/sequential");
}

TEST(RunLabels, AreAsShortAsTheyCanBe) {
  EXPECT_EQ(run_labels({"/x/a/p", "/x/a/q"}), (std::vector<std::string>{"a", "a"}));
  EXPECT_EQ(run_labels({"/x/a/p", "/x/b/p"}), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(run_labels({"/old/run/p", "/new/run/p", "/new/other/p"}),
            (std::vector<std::string>{"old/run", "new/run", "other"}));
}

}  // namespace
}  // namespace dovetail
