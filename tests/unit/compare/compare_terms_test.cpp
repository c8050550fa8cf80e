// From files to terms: the passes that only some files hold, and what is before a step.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/compare/before_step.hpp"
#include "framework/compare/compare.hpp"
#include "framework/compare/flags.hpp"
#include "framework/record/hdf5.hpp"
#include "framework/record/policy_folder.hpp"
#include "framework/record/run_folder.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/compare/compare_fixture.hpp"

namespace dovetail {
namespace {

/// Gives the profiled step all passes: alone and held back ops take 3 us less, with all SMs 5 us
/// less; in the full pass 4 us less when they are held; without times of ops the step takes 99 us.
void add_all_passes(SyntheticRun& run) {
  for (SyntheticRank& rank : run.ranks) {
    auto& passes = rank.profiles.front().passes;
    const auto shortened = [&](std::size_t which, std::int64_t by_ns) {
      auto pass = passes[which];
      for (auto& end : pass.op_end_ns) {
        end -= end < 0 ? 0 : by_ns;
      }
      return pass;
    };
    passes.push_back(shortened(1, 5'000));
    passes.push_back(shortened(1, 3'000));
    passes.push_back({.start_ns = passes[0].start_ns, .end_ns = passes[0].start_ns + 99'000});
    passes.push_back(shortened(0, 4'000));
  }
}

void set_device(SyntheticRun& run, const std::string& device) {
  for (SyntheticRank& rank : run.ranks) {
    rank.device = device;
  }
}

/// Makes the files of a policy those of version 6.
void make_older(const std::filesystem::path& folder, int num_ranks) {
  for (int rank = 0; rank < num_ranks; ++rank) {
    auto file =
        hdf5::File::open((folder / rank_file_name(rank)).string(), hdf5::Access::read_write);
    file.update_attribute("/", {attribute::kSchemaVersion, std::int64_t{6}});
    for (const char* newer : {path::kBeforeNs,
                              path::kOpsAllSms,
                              path::kOpsGated,
                              path::kOpsFullGated,
                              path::kFurtherStepNs}) {
      file.remove(newer);
    }
  }
}

TEST_F(Compare, AllPassesOfAGpuBecomeTerms) {
  add_all_passes(policy_);
  const auto terms = compare().policies[1].metrics->decomposition;
  EXPECT_EQ(terms.sms_left_out, 6'000) << "three ops";
  EXPECT_EQ(terms.launch_gaps, 12'000);
  EXPECT_EQ(terms.contention, 4'000 - 2 * 1'000) << "two ops, each 4 us less against 3 us less";
  EXPECT_EQ(terms.split_tax, 11'000 - 15'000);
  EXPECT_EQ(terms.recording, -1'000);
  EXPECT_EQ(terms.timed_vs_profiled, 55'000 - 99'000);
  EXPECT_EQ(terms.unexplained, 3'000 - 1'000);
}

TEST_F(Compare, FilesOfOlderVersionsLackThem) {
  set_device(baseline_, "cuda:0 NVIDIA H200");
  set_device(policy_, "cuda:0 NVIDIA H200");
  const auto policies = compare().policies;
  EXPECT_EQ(policies[1].metrics->decomposition.sms_left_out, 0) << "no such pass: nothing left out";
  for (const auto& policy : policies) {
    make_older(policy.result.folder, 2);
  }
  const auto report = compare_policies({folder_.path()});
  const auto& terms = report.policies[1].metrics->decomposition;
  EXPECT_FALSE(terms.sms_left_out.has_value());
  EXPECT_FALSE(terms.launch_gaps.has_value());
  EXPECT_FALSE(terms.recording.has_value());
  EXPECT_FALSE(report.policies[1].result.before.has_value());
  EXPECT_EQ(terms.split_tax, 11'000);
  EXPECT_EQ(terms.unexplained, 3'000);
  const auto json = to_json(report).at("policies").at(1);
  EXPECT_TRUE(json.at("before_ns").is_null());
  EXPECT_TRUE(json.at("metrics").at("terms_ns").at("sms_left_out").is_null());
}

TEST_F(Compare, OnACpuNothingIsLeftOutInFilesOfAnyVersion) {
  const auto policies = compare().policies;
  for (const auto& policy : policies) {
    make_older(policy.result.folder, 2);
  }
  const auto report = compare_policies({folder_.path()});
  EXPECT_EQ(report.policies[1].metrics->decomposition.sms_left_out, 0);
  EXPECT_EQ(report.policies[1].metrics->decomposition.launch_gaps, 0);
}

/// The rank that comes last to a collective knows what it costs; the others wait in it.
TEST_F(Compare, BeforeAStepCollectivesCountAsTheLastRankSeesThem) {
  policy_.ranks[0].before = {{900, 50, 30}, {20, 50, 30}, {20, 50, 30}};
  policy_.ranks[1].before = {{10, 40, 70}, {15, 90, 5}, {25, 40, 70}};
  const auto report = compare();
  const auto& before = report.policies[1].result.before;
  ASSERT_TRUE(before.has_value());
  EXPECT_EQ(before->agreement_ns, 40) << "median of 10 + 30, 15 + 5, 20 + 30";
  EXPECT_EQ(before->preparation_ns, 50) << "median of 50, 90, 50";
  EXPECT_FALSE(report.policies[0].result.before.has_value()) << "not written";
  const auto json = to_json(report);
  EXPECT_EQ(json.at("policies").at(1).at("before_ns").at("agreement"), 40);
  const auto text = to_text(report);
  EXPECT_NE(text.find("= whole"), std::string::npos) << text;
}

/// A step that some rank does not know is left out, and with it its iteration.
TEST_F(Compare, IterationsThatAreNotKnownAreLeftOutOfWhatIsBefore) {
  policy_.ranks[0].before = {{10, 50, 0}, {}, {20, 70, 0}};
  policy_.ranks[1].before = {{10, 50, 0}, {30, 60, 0}, {20, 70, 0}};
  const auto report = compare();
  EXPECT_EQ(report.policies[1].result.before->agreement_ns, 15);
  EXPECT_EQ(report.policies[1].result.before->preparation_ns, 60);
}

TEST_F(Compare, ANoteSaysWhereATermIsLarge) {
  auto report = compare();
  report.policies[0].metrics.reset();
  auto& policy = report.policies[1];
  auto& metrics = *policy.metrics;
  auto& terms = metrics.decomposition;
  metrics.unexplained_by_phase_ns = {{"attention", 40}, {"experts", 90}, {"route", -95}};
  terms.measured = 10'000;
  const auto says = [&](const std::string& note) {
    return to_text(report).find(note) != std::string::npos;
  };
  for (const double share : {-0.04, -0.02, 0.02, 0.04}) {
    terms.unexplained = share * terms.measured;
    terms.timed_vs_profiled = share * terms.measured;
    terms.recording = -share / 3 * terms.measured;
    const bool is_large = std::abs(share) > 0.03;
    EXPECT_EQ(says("Unexplained is "), is_large) << share;
    EXPECT_EQ(says(" of the p50 (a_dual, mostly " + std::string(share < 0 ? "route" : "experts")),
              is_large)
        << share;
    EXPECT_EQ(says("Recording adds 1.3 % of the p50 (a_dual) to profiled"), share > 0.03) << share;
    EXPECT_EQ(says("lost in noise: -1.3 % of the p50 (a_dual); "), share < -0.03)
        << share << ": nothing is saved by it";
    EXPECT_EQ(has_flag(policy, Flag::recording), is_large) << share;
    EXPECT_EQ(says("The p50 differs by "), is_large) << share;
  }
  terms.recording_error = 0.01 * terms.measured;
  terms.recording = -0.02 * terms.measured;
  EXPECT_TRUE(says("Recording adds 2.0 % of the p50 (a_dual, +- 1.0 %) to profiled"));
  terms.recording_error = 0.03 * terms.measured;
  EXPECT_TRUE(says("lost in noise: 2.0 % of the p50 (a_dual, +- 3.0 %); "));
  EXPECT_FALSE(says("Recording adds "));
  EXPECT_FALSE(says("Launch gaps of"));
  metrics.num_held = 7;
  metrics.num_not_held = 2;
  EXPECT_TRUE(says("Launch gaps of a_dual: those of 2 of 9 ops are not known"));
}

std::string execution_of(const std::string& exchange, GraphMode graph) {
  ResolvedExecution execution;
  execution.exchange = exchange;
  execution.graph = graph;
  return to_json_text(execution);
}

/// The baseline computes kernel by kernel, the policy by one graph: less time alone is no unrest.
TEST_F(Compare, TermsAgainstABaselineOfAnotherExecutionSayThatTheyHoldIt) {
  const auto report_of = [&](const std::string& exchange, GraphMode graph) {
    std::filesystem::remove_all(folder_.path() / "a_dual");
    std::filesystem::remove_all(folder_.path() / "b_sequential");
    for (SyntheticRank& rank : baseline_.ranks) {
      rank.execution = execution_of("gather", GraphMode::none);
    }
    for (SyntheticRank& rank : policy_.ranks) {
      rank.execution = execution_of(exchange, graph);
    }
    auto report = compare();
    report.policies[1].metrics->decomposition.split_tax = -50'000;
    return report;
  };
  const std::string not_quiet = "Not quiet: in a_dual split tax";
  const auto same = to_text(report_of("gather", GraphMode::none));
  EXPECT_NE(same.find(not_quiet), std::string::npos) << same;
  EXPECT_EQ(same.find("another difference"), std::string::npos) << same;
  const auto other = to_text(report_of("ragged", GraphMode::full));
  EXPECT_EQ(other.find(not_quiet), std::string::npos) << other;
  EXPECT_NE(
      other.find("\nSplit tax and comm split hold another difference from the baseline, too: "
                 "a_dual (graph full in place of none, exchange ragged in place of gather)\n"),
      std::string::npos)
      << other;
  auto without_ops = report_of("ragged", GraphMode::full);
  without_ops.policies[1].metrics.reset();
  EXPECT_EQ(to_text(without_ops).find("another difference"), std::string::npos) << "no such terms";
}

TEST_F(Compare, APolicyThatIsFasterThanTheIdealIsNamed) {
  auto report = compare();
  auto& policy = report.policies[1];
  const std::string note = "Faster than the ideal: the p50 of a_dual (graph full in place of none)";
  policy.other_execution = "graph full in place of none";
  policy.metrics->decomposition.measured = 1.01 * policy.metrics->ideal_ns;
  EXPECT_EQ(to_text(report).find("Faster than the ideal: the p50 of a_dual"), std::string::npos);
  policy.metrics->decomposition.measured = 0.99 * policy.metrics->ideal_ns;
  EXPECT_NE(to_text(report).find(note), std::string::npos) << to_text(report);
  EXPECT_TRUE(has_flag(policy, Flag::below_ideal));
}

}  // namespace
}  // namespace dovetail
