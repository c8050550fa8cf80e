// What a sweep need not measure again, and that nothing else is taken for it.
#include "framework/run/earlier_policy.hpp"

#include <fstream>

#include <gtest/gtest.h>

#include "framework/base/scratch_folder.hpp"
#include "framework/config/load.hpp"
#include "framework/record/run_folder.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

constexpr const char* kExperiment =
    "experiment: small\n"
    "model: {architecture: fake, config: c.json}\n"
    "workload: {requests: {count: 1, length: 8}}\n"
    "policies: [{name: plain, schedule: sequential}, {name: dual_batch}]\n"
    "verify: {baseline: plain, mode: tolerance}\n";

/// Of the policy of that index.
std::string measured(std::size_t policy, const std::vector<std::string>& settings = {}) {
  const auto experiment = parse_experiment(kExperiment, "x", settings).experiment;
  return what_is_measured(experiment, experiment.policies.at(policy));
}

TEST(WhatIsMeasured, IsNotChangedByOtherPolicies) {
  ASSERT_NE(measured(0), "");
  EXPECT_EQ(measured(0), measured(0, {"policies.dual_batch.ubatches=3"}));
  EXPECT_EQ(measured(1), measured(1, {"policies.plain.warmup=7"}));
  EXPECT_NE(measured(0), measured(1));
}

TEST(WhatIsMeasured, IsChangedByAllElse) {
  for (const char* setting : {"experiment=other",
                              "model.weights={seed: 7}",
                              "parallel.expert_parallel=2",
                              "workload.requests.count=2",
                              "workload.seed=3",
                              "execution.exchange=gather",
                              "policies.plain.iterations=3",
                              "verify.mode=none",
                              "record.timing=ops",
                              "fault={kind: veto, rank: 0}"}) {
    EXPECT_NE(measured(0), measured(0, {setting})) << setting;
  }
}

TEST(WhatIsMeasured, TakesInTheBaselineWhereItGivesTheRouting) {
  const std::string recorded = "record.outputs=[hidden, routing]";
  for (const std::string& routing : {std::string("verify.routing=replay"), recorded}) {
    const std::vector<std::string> before = {recorded, routing};
    const std::vector<std::string> after = {recorded, routing, "policies.plain.warmup=7"};
    EXPECT_NE(measured(1, before), measured(1, after)) << routing;
    const std::vector<std::string> other = {recorded, routing, "policies.dual_batch.ubatches=3"};
    EXPECT_EQ(measured(0, before), measured(0, other)) << routing;
  }
}

TEST(WhatIsMeasured, IsNotKnownWhereItIsWantedAgainOrInAFile) {
  EXPECT_EQ(measured(0, {"sweep_unchanged=measure_again"}), "");
  EXPECT_EQ(measured(1, {"policies[1]={name: auto, table: t.json}"}), "");
}

TEST(FindUnchanged, NamesTheFirstPointThatMeasuresAPolicy) {
  using Unchanged = std::vector<std::map<std::string, std::size_t>>;
  const auto points_of = [](const std::vector<std::string>& more) {
    std::vector<Experiment> points;
    for (const char* ubatches : {"2", "3", "2"}) {
      auto settings = more;
      settings.push_back(std::string("policies.dual_batch.ubatches=") + ubatches);
      points.push_back(parse_experiment(kExperiment, "x", settings).experiment);
    }
    return points;
  };
  EXPECT_EQ(find_unchanged(points_of({})),
            (Unchanged{{}, {{"plain", 0}}, {{"plain", 0}, {"dual_batch", 0}}}));
  EXPECT_EQ(find_unchanged(points_of({"sweep_unchanged=measure_again"})), Unchanged(3));
  EXPECT_EQ(points_that_measure(points_of({})).size(), 3U) << "plain, two and three ubatches";
}

/// What full_spec says, with the attributes of a run.
RankFileSpec spec_of(const std::string& environment) {
  auto spec = test::full_spec();
  spec.attributes = {{"argv", std::string("dovetail run")},
                     {"environment", environment},
                     {"git_revision", std::string("abc")}};
  return spec;
}

TEST(MeasuredAlike, ComparesWhereAndHowAFileWasWritten) {
  const ScratchFolder folder;
  const auto file = folder.path() / "rank-00000.h5";
  const auto same = spec_of("OMPI_JOB=1\nOMP_NUM_THREADS=2\n");
  test::write_full_file(file, same);
  EXPECT_TRUE(is_measured_alike(file, same));
  EXPECT_TRUE(is_measured_alike(file, spec_of("OMPI_JOB=2\nOMP_NUM_THREADS=2\n")));
  EXPECT_FALSE(is_measured_alike(file, spec_of("OMPI_JOB=1\nOMP_NUM_THREADS=1\n")));
  auto other = same;
  other.attributes[0].value = std::string("dovetail run, on another day");
  other.started_at = "2030-01-01T00:00:00Z";
  other.config += "# of another point\n";
  EXPECT_TRUE(is_measured_alike(file, other));
  const auto refused = [&](const auto& change) {
    auto changed = same;
    change(changed);
    return !is_measured_alike(file, changed);
  };
  EXPECT_TRUE(refused([](auto& spec) { spec.host = "elsewhere"; }));
  EXPECT_TRUE(refused([](auto& spec) { spec.device = "cuda:0 other"; }));
  EXPECT_TRUE(refused([](auto& spec) { spec.weights_digest += "0"; }));
  EXPECT_TRUE(refused([](auto& spec) { spec.inputs_digest += "0"; }));
  EXPECT_TRUE(refused([](auto& spec) { spec.world_size += 1; }));
  EXPECT_TRUE(refused([](auto& spec) { spec.schedules.front().digest += "0"; }));
  EXPECT_TRUE(refused([](auto& spec) { spec.attributes[2].value = std::string("abd"); }));
  EXPECT_FALSE(is_measured_alike(folder.path() / "none.h5", same));
}

TEST(MeasuredAlike, AFileThatIsNotCompleteIsNone) {
  const ScratchFolder folder;
  const auto file = folder.path() / "rank-00000.h5";
  { const RankRecorder unfinished(file, spec_of("")); }
  EXPECT_FALSE(is_measured_alike(file, spec_of("")));
}

TEST(LinkRankFiles, MakesFilesOfBothFolders) {
  const ScratchFolder folder;
  const auto from = folder.path() / "from";
  const auto to = folder.path() / "to";
  fs::create_directories(from / kReferenceFolder);
  fs::create_directory(to);
  for (const fs::path name : {"rank-00000.h5", "rank-00001.h5", "summary.json"}) {
    std::ofstream(from / name) << name;
  }
  std::ofstream(from / kReferenceFolder / "rank-00000.h5") << "reference";
  link_rank_files(from, to);
  EXPECT_TRUE(fs::equivalent(from / "rank-00001.h5", to / "rank-00001.h5"));
  EXPECT_TRUE(fs::equivalent(from / "reference/rank-00000.h5", to / "reference/rank-00000.h5"));
  EXPECT_FALSE(fs::exists(to / "summary.json")) << "it is made anew";
}

TEST(EarlierPolicies, AreTextAndBack) {
  const std::vector<EarlierPolicy> all = {{"plain", 3, "a \"b\"\n/plain"}, {"dual", 0, "x"}};
  EXPECT_EQ(parse_earlier_policies(to_json_text(all)), all);
  EXPECT_EQ(find_earlier(all, "dual"), &all[1]);
  EXPECT_EQ(find_earlier(all, "other"), nullptr);
}

}  // namespace
}  // namespace dovetail
