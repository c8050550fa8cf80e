// The lines of quantities.hpp are sound, whatever a report shows has one, and results/README.md
// says what they say.
//
// DOVETAIL_UPDATE_README=1 writes the glossary of results/README.md instead of comparing it.
#include "framework/compare/quantities.hpp"

#include <set>

#include <gtest/gtest.h>

#include "framework/compare/compare.hpp"
#include "framework/compare/summary.hpp"
#include "framework/compare/sweep_result.hpp"
#include "framework/plan/schedule_print.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/quantity_check.hpp"
#include "tests/support/readme_table.hpp"
#include "tests/unit/compare/synthetic_run.hpp"

namespace dovetail {
namespace {

using Missing = std::vector<std::string>;

const std::vector<Report> kCompare = {Report::compare_steps,
                                      Report::compare_kinds,
                                      Report::compare_devices,
                                      Report::compare_terms,
                                      Report::compare_exchange};

/// A policy with all that a run can leave: profiled steps, graphs, memory, vetoes.
std::filesystem::path write_policy(const std::filesystem::path& run, const std::string& name) {
  SyntheticRun policy = make_synthetic_run(2, name);
  add_synthetic_iterations(policy, 3, 1, 1, 1);
  add_synthetic_profile(policy);
  for (SyntheticRank& rank : policy.ranks) {
    rank.device = "cuda:0 NVIDIA H200";
    rank.enqueue_ns = {100, 200, 300};
    rank.decision = {.ubatched = 0,
                     .reason = static_cast<std::int64_t>(VetoReason::below_threshold),
                     .veto_rank = 1,
                     .eager_reason = static_cast<std::int64_t>(EagerReason::warm_up)};
    rank.decisions.assign(3, rank.decision);
    rank.decisions[1] = {.ubatched = 1};
    rank.graphs.eager(EagerReason::warm_up) = 2;
    rank.memory = {1, 2, 3, 4, 5};
  }
  return policy.write(run);
}

class ReportedQuantities : public ::testing::Test {
 protected:
  ReportedQuantities()
      : baseline_(write_policy(folder_.path() / "run", "sequential")),
        policy_(write_policy(folder_.path() / "run", "dual_batch")) {}

  nlohmann::json summary() const {
    return policy_summary(policy_,
                          {.baseline_dir = baseline_,
                           .verification = verify_policies(baseline_, policy_),
                           .iterations = judge_iterations(PolicyFolder(policy_))});
  }

  TemporaryFolder folder_;
  std::filesystem::path baseline_;
  std::filesystem::path policy_;
};

TEST(Quantities, ReadmeSaysWhatTheRowsSay) {
  testing::expect_readme_table(
      DOVETAIL_SOURCE_DIR "/results/README.md", "quantities", write_quantities_as_markdown());
}

TEST(Quantities, RowsAreSound) {
  std::set<std::pair<bool, std::string>> fields;
  for (const Quantity& row : quantities()) {
    const std::string name = row.heading + " " + row.field;
    EXPECT_FALSE(row.heading.empty() && row.field.empty());
    EXPECT_TRUE(row.meaning.ends_with(".")) << name;
    EXPECT_EQ(row.meaning.find('\n'), std::string::npos) << name;
    EXPECT_FALSE(row.formula.ends_with(".")) << name;
    const bool of_sweep = find_sweep_field(row.field) == &row;
    EXPECT_TRUE(row.field.empty() || of_sweep || find_summary_field(row.field) == &row)
        << name << " is there twice";
    const auto unit = row.heading.find(" [");
    if (unit != std::string::npos && row.unit != kTextUnit && row.unit != "factor") {
      EXPECT_EQ(row.heading.substr(unit + 2), row.unit + "]") << name;
    }
  }
}

TEST_F(ReportedQuantities, EveryColumnOfCompareHasALine) {
  const auto one = to_text(compare_policies({folder_.path() / "run"}));
  EXPECT_EQ(testing::headings_without_line(one, kCompare), Missing{});
  const auto headings = testing::headings_in(one);
  EXPECT_EQ(headings.size(), 12U + 10U + 12U + 20U + 12U) << "five tables without run and baseline";

  write_policy(folder_.path() / "other", "sequential");
  const auto two = to_text(compare_policies({folder_.path() / "run", folder_.path() / "other"}));
  EXPECT_EQ(testing::headings_without_line(two, kCompare), Missing{});
  EXPECT_EQ(testing::headings_in(two).size(), headings.size() + 6);
}

TEST_F(ReportedQuantities, EveryColumnOfVerifyAndPlanHasALine) {
  const auto verify = to_text(verify_policies(baseline_, policy_));
  EXPECT_EQ(testing::headings_without_line(verify, {Report::verify}), Missing{});
  EXPECT_EQ(testing::headings_in(verify).size(), headings_of(Report::verify).size());

  std::string line = schedule_to_table(Schedule{});
  line = line.substr(line.find('\n') + 1);
  for (const std::string& heading : headings_of(Report::plan)) {
    const auto at = line.find(heading);
    ASSERT_NE(at, std::string::npos) << heading;
    line.erase(at, heading.size());
  }
  EXPECT_EQ(line.find_first_not_of(" \n"), std::string::npos) << "no line: " << line;
}

TEST_F(ReportedQuantities, EveryFieldOfASummaryHasALine) {
  const nlohmann::json whole = summary();
  ASSERT_EQ(whole.at("timings"), "valid");
  ASSERT_GT(testing::fields_of(whole).size(), 150U);
  EXPECT_EQ(testing::fields_without_line(whole, find_summary_field), Missing{});
  const nlohmann::json compared = to_json(compare_policies({folder_.path() / "run"}));
  for (const nlohmann::json& policy : compared.at("policies")) {
    EXPECT_EQ(testing::fields_without_line(policy, find_summary_field), Missing{});
  }
  std::filesystem::remove(policy_ / "rank-00001.h5");
  EXPECT_EQ(testing::fields_without_line(policy_summary(policy_), find_summary_field), Missing{});
}

/// The twin of the above: what has no line is named.
TEST_F(ReportedQuantities, WhatHasNoLineIsNoticed) {
  nlohmann::json more = summary();
  more["metrics"]["surprise_ns"] = 1;
  more["verification"]["tensors"][0]["surprise"] = 1;
  EXPECT_EQ(testing::fields_without_line(more, find_summary_field),
            (Missing{"metrics.surprise_ns", "verification.tensors.surprise"}));

  auto columns = columns_of(Report::compare_terms);
  columns.push_back({"surprise"});
  EXPECT_EQ(testing::headings_without_line(TextTable(columns).to_string(), kCompare),
            Missing{"surprise"});
  EXPECT_EQ(testing::headings_without_line(TextTable(columns).to_string(40), kCompare),
            Missing{"surprise"})
      << "in blocks";
}

TEST(Quantities, EveryColumnAndFieldOfASweepHasALine) {
  SweepPolicy policy{.name = "dual_batch", .schedule = "dual_batch", .link = "none"};
  policy.step_ns = Statistics{};
  const SweepResult sweep{
      .experiment = "small",
      .world_size = 2,
      .keys = {"workload.seed"},
      .points = {{.values = {"1"}, .folder = "point-0000", .policies = {policy}}},
      .step_times = {{"version", 2}, {"setting", {{"a", 1}}}, {"points", {{{"b", 1}}}}}};
  EXPECT_EQ(testing::headings_without_line(to_text(sweep), {Report::sweep_table}),
            Missing{"workload.seed"})
      << "an axis is named by its key";
  EXPECT_EQ(testing::fields_without_line(to_json(sweep), find_sweep_field), Missing{});
  nlohmann::json more = to_json(sweep);
  more["points"][0]["surprise"] = 1;
  EXPECT_EQ(testing::fields_without_line(more, find_sweep_field), Missing{"points.surprise"});

  const std::string csv = to_csv(sweep);
  EXPECT_TRUE(csv.starts_with("point,folder,status,workload.seed,policy,schedule,")) << csv;
  for (const Quantity* row : quantities_of({Report::sweep_csv})) {
    EXPECT_TRUE(row->field.empty() || testing::fields_of(to_json(sweep)).contains(row->field))
        << row->field;
  }
}

TEST(Quantities, AreFoundByColumnOrField) {
  for (const char* name : {"p50 [ms]", "p50", "P50", "step_ns.p50"}) {
    const auto found = find_quantities(name);
    EXPECT_TRUE(std::any_of(found.begin(), found.end(), [](const Quantity* row) {
      return row->report == Report::compare_steps && row->field == "step_ns.p50";
    })) << name;
  }
  EXPECT_NE(testing::input_error_of([] {
              find_quantities("splendour");
            }).find("no column or field 'splendour'; those of compare: step"),
            std::string::npos);
  EXPECT_FALSE(testing::input_error_of([] { find_quantities(""); }).empty());
}

TEST(Quantities, AreExplainedWithinAWidth) {
  const std::string text = explain(quantities_of({Report::compare_terms}), 60);
  EXPECT_TRUE(text.starts_with("compare: where the step goes\n  run\n")) << text;
  EXPECT_NE(text.find("  unexplained\n"), std::string::npos);
  EXPECT_NE(text.find("    = p50 - all terms to the left\n"), std::string::npos);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    EXPECT_LE(line.size(), 60U) << line;
  }
}

}  // namespace
}  // namespace dovetail
