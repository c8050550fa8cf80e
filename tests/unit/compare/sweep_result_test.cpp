#include "framework/compare/sweep_result.hpp"

#include <fstream>
#include <functional>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/compare/summary.hpp"
#include "framework/compare/verify.hpp"
#include "framework/config/dump.hpp"
#include "framework/record/run_folder.hpp"
#include "tests/support/pipe_file.hpp"
#include "tests/unit/compare/synthetic_run.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

/// A run folder of a point, as a run would leave it.
class SweepPoint : public ::testing::Test {
 protected:
  SweepPoint() {
    experiment_.experiment = "synthetic";
    experiment_.execution.iterations = 3;
    for (const auto* name : {"sequential", "dual_batch"}) {
      PolicyConfig policy;
      policy.name = name;
      policy.schedule = name;
      policy.execution = experiment_.execution;
      experiment_.policies.push_back(policy);
    }
    experiment_.verify = {.baseline = "sequential", .mode = VerifyMode::tolerance};
  }

  void write(const std::function<void(SyntheticRun&)>& change = {}) {
    write_text(kExperimentFileName, dump(experiment_));
    for (const auto& policy : experiment_.policies) {
      SyntheticRun run = make_synthetic_run(2, policy.name);
      add_synthetic_profile(run);
      if (policy.name == "dual_batch") {
        for (SyntheticRank& rank : run.ranks) {
          rank.step_ns = {500, 1000, 1500};
        }
        if (change) {
          change(run);
        }
      }
      const auto baseline = folder_.path() / "sequential";
      const auto own = run.write(folder_.path());
      SummaryOptions options;
      if (policy.name != "sequential" && experiment_.verify.mode != VerifyMode::none) {
        options = {.baseline_dir = baseline, .verification = verify_policies(baseline, own)};
      }
      write_json(own / kSummaryFileName, policy_summary(own, options));
    }
  }

  void write_text(const fs::path& name, const std::string& text) {
    std::ofstream(folder_.path() / name) << text;
  }

  SweepPointResult read() { return read_sweep_point(folder_.path(), experiment_); }

  TemporaryFolder folder_;
  Experiment experiment_;
};

TEST_F(SweepPoint, ACompletePointGivesARowForEachPolicy) {
  write([](SyntheticRun& run) {
    for (SyntheticRank& rank : run.ranks) {
      rank.link = "emulated: 20 us, 1 GB/s";
    }
  });
  const auto point = read();
  EXPECT_EQ(point.status, SweepPointStatus::complete) << point.problem;
  ASSERT_EQ(point.policies.size(), 2U);
  const SweepPolicy& plain = point.policies[0];
  const SweepPolicy& dual = point.policies[1];
  EXPECT_EQ(plain.name, "sequential");
  EXPECT_EQ(plain.verdict, "baseline");
  EXPECT_EQ(plain.link, "none");
  EXPECT_EQ(dual.verdict, "verified");
  EXPECT_EQ(dual.link, "emulated: 20 us, 1 GB/s");
  EXPECT_EQ(dual.ubatches, 2);
  EXPECT_EQ(dual.total_tokens, 4 + 1 + 7 + 3 + 5 + 6);
  EXPECT_EQ(dual.max_tokens, 3 + 5 + 6) << "of the second rank";
  EXPECT_FALSE(dual.one_token_each);
  EXPECT_EQ(dual.context_tokens, 0);
  ASSERT_TRUE(dual.step_ns && plain.step_ns);
  EXPECT_EQ(dual.step_ns->p50, 1000);
  EXPECT_EQ(*dual.speed_up, plain.step_ns->p50 / 1000);
  EXPECT_TRUE(dual.hidden_share.has_value());
  EXPECT_TRUE(dual.hand_off_p50_ns.has_value());
}

TEST_F(SweepPoint, NotesAndFlagsAreThoseOfItsPolicies) {
  write([](SyntheticRun& run) {
    for (SyntheticRank& rank : run.ranks) {
      rank.decision = {.ubatched = 0,
                       .reason = static_cast<std::int64_t>(VetoReason::below_threshold)};
    }
  });
  const auto point = read();
  EXPECT_NE(std::find(point.notes.begin(),
                      point.notes.end(),
                      "dual_batch: vetoed in 3 of 3 steps: below_threshold x 3"),
            point.notes.end());
  const auto& flags = point.policies[1].flags;
  EXPECT_NE(std::find(flags.begin(), flags.end(), "timed_vs_profiled"), flags.end())
      << "steps of 1 us, and profiled ones of 100";
}

TEST_F(SweepPoint, WithoutVerificationTheFirstPolicyIsTheBaseline) {
  experiment_.verify = {};
  write();
  const auto point = read();
  EXPECT_EQ(point.status, SweepPointStatus::complete);
  EXPECT_EQ(point.policies[0].verdict, "not_verified");
  EXPECT_EQ(*point.policies[0].speed_up, 1);
  EXPECT_EQ(*point.policies[1].speed_up, 2);
}

TEST_F(SweepPoint, AMismatchIsOneAndHasNoTimes) {
  write([](SyntheticRun& run) { run.ranks[0].outputs.at("hidden").values[3] += 100; });
  const auto point = read();
  EXPECT_EQ(point.status, SweepPointStatus::mismatch);
  EXPECT_EQ(point.policies[1].verdict, "mismatch");
  EXPECT_FALSE(point.policies[1].step_ns || point.policies[1].speed_up);
}

TEST_F(SweepPoint, ABaselineThatIsNotFiniteVerifiesNothing) {
  write();
  const auto file = folder_.path() / "sequential" / "summary.json";
  auto summary = nlohmann::json::parse(std::ifstream(file));
  summary["not_finite"] = {{"tensor", "hidden"}};
  std::ofstream(file) << summary.dump();
  EXPECT_EQ(read().status, SweepPointStatus::mismatch);
  EXPECT_EQ(read().policies[0].verdict, "not_finite");
}

TEST_F(SweepPoint, WhatIsNotThereYetIsPending) {
  EXPECT_EQ(read_sweep_point(folder_.path() / "none", experiment_).status,
            SweepPointStatus::pending);
}

TEST_F(SweepPoint, AnythingLessThanAllIsIncompleteAndSaysWhy) {
  const auto expect = [&](const std::string& problem) {
    const auto point = read();
    EXPECT_EQ(point.status, SweepPointStatus::incomplete) << problem;
    EXPECT_NE(point.problem.find(problem), std::string::npos) << point.problem;
  };
  expect("no experiment.yaml");
  write();
  ASSERT_EQ(read().status, SweepPointStatus::complete);

  experiment_.workload.seed = 7;
  expect("another experiment");
  experiment_.workload.seed = 0;

  const auto summary = folder_.path() / "dual_batch" / kSummaryFileName;
  fs::rename(summary, folder_.path() / "kept.json");
  expect("policy dual_batch: no summary.json");
  write_text("dual_batch/summary.json", "{\"policy\": 3");
  expect("summary.json");
  write_text("dual_batch/summary.json", "{}");
  expect("summary.json");
  fs::remove(summary);
  fs::rename(folder_.path() / "kept.json", summary);
  ASSERT_EQ(read().status, SweepPointStatus::complete);

  fs::remove(folder_.path() / "dual_batch" / "rank-00001.h5");
  expect("rank 1");
}

TEST_F(SweepPoint, StepsThatAreMissingMakeItIncomplete) {
  write([](SyntheticRun& run) {
    for (SyntheticRank& rank : run.ranks) {
      rank.step_ns[2] = -1;
    }
  });
  EXPECT_EQ(read().status, SweepPointStatus::incomplete);
  EXPECT_EQ(read().problem, "policy dual_batch: 2 of 3 timed steps");
}

/// Two of three iterations, as the file itself says.
TEST_F(SweepPoint, WhatEndedEarlyIsCompleteWhereItMay) {
  const auto end_early = [](SyntheticRun& run) {
    run.iterations_run = 2;
    for (SyntheticRank& rank : run.ranks) {
      rank.step_ns = {500, 1000, -1};
      rank.timed_hashes.resize(2);
    }
  };
  const auto set_precision = [&](double precision) {
    experiment_.execution.precision = precision;
    for (PolicyConfig& policy : experiment_.policies) {
      policy.execution = experiment_.execution;
    }
    fs::remove_all(folder_.path() / "sequential");
    fs::remove_all(folder_.path() / "dual_batch");
  };
  set_precision(0.5);
  write(end_early);
  EXPECT_EQ(read().status, SweepPointStatus::complete) << read().problem;
  EXPECT_EQ(read().policies[1].step_ns->count, 2);
  set_precision(0);
  write(end_early);
  EXPECT_EQ(read().status, SweepPointStatus::incomplete) << "nothing let it end";
  EXPECT_EQ(read().problem, "policy dual_batch: 2 of 3 timed steps");
  set_precision(0.5);
  write([](SyntheticRun& run) {
    for (SyntheticRank& rank : run.ranks) {
      rank.step_ns[2] = -1;
    }
  });
  EXPECT_EQ(read().status, SweepPointStatus::incomplete) << "the file does not say that it ended";
}

/// Whatever the file system says is the point's problem, not the sweep's end.
TEST_F(SweepPoint, WhatCannotBeReadMakesItIncomplete) {
  const auto point = read_sweep_point(folder_.path() / std::string(300, 'x'), experiment_);
  EXPECT_EQ(point.status, SweepPointStatus::incomplete);
  EXPECT_NE(point.problem.find("File name too long"), std::string::npos) << point.problem;
  write();
  const auto summary = folder_.path() / "dual_batch" / kSummaryFileName;
  fs::remove(summary);
  fs::create_symlink(summary, summary);
  EXPECT_EQ(read().status, SweepPointStatus::incomplete);
  EXPECT_NE(read().problem.find(summary.string()), std::string::npos) << read().problem;
}

TEST_F(SweepPoint, PipesAreRefusedAtOnce) {
  write();
  const auto read_problem = [&] {
    const auto point = read();
    EXPECT_EQ(point.status, SweepPointStatus::incomplete);
    throw InputError(point.problem);
  };
  testing::expect_pipe_refused(folder_.path() / "dual_batch" / kSummaryFileName, read_problem);
  testing::expect_pipe_refused(folder_.path() / kExperimentFileName, read_problem);
}

TEST_F(SweepPoint, AFailedRankMakesItIncomplete) {
  write([](SyntheticRun& run) {
    run.ranks[1].status = RunStatus::failed;
    run.ranks[1].failure = "out of luck";
  });
  EXPECT_EQ(read().status, SweepPointStatus::incomplete);
  EXPECT_NE(read().problem.find("out of luck"), std::string::npos) << read().problem;
}

}  // namespace
}  // namespace dovetail
