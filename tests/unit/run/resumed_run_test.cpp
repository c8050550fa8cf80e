// A run's folder that is taken up again: what is refused, and where unfinished policies go.
#include "framework/run/resumed_run.hpp"

#include <fstream>

#include <gtest/gtest.h>

#include "framework/base/scratch_folder.hpp"
#include "framework/config/dump.hpp"
#include "framework/config/load.hpp"
#include "framework/record/recorder.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;
using testing::input_error_of;

constexpr const char* kExperiment = R"(experiment: x
model: {architecture: fake, config: c.json, weights: {seed: 1}}
workload: {phase: prefill, requests: {count: 1, length: 2}}
policies: [{name: plain, schedule: sequential}]
verify: {mode: none}
)";

Experiment experiment_of(const std::vector<std::string>& overrides = {}) {
  return parse_experiment(kExperiment, "x", overrides).experiment;
}

RankFileSpec spec_of(const std::string& revision) {
  auto spec = test::full_spec(0, 2);
  spec.attributes = {{"git_revision", revision}, {"cpu", revision}};
  return spec;
}

TEST(MakeFolderAnew, KeepsWhatIsThere) {
  const ScratchFolder folder;
  const auto& run = folder.path();
  EXPECT_EQ(make_folder_anew(run, "plain"), "");
  EXPECT_TRUE(fs::is_directory(run / "plain"));
  EXPECT_EQ(make_folder_anew(run, "plain"), "") << "an empty folder is as good as a new one";
  for (const std::string name : {"plain", "plain.2", "plain.3"}) {
    std::ofstream(run / "plain" / "rank-00000.h5") << name;
    EXPECT_EQ(make_folder_anew(run, "plain"), run / kUnfinishedFolder / name);
    EXPECT_EQ(test::read_file(run / kUnfinishedFolder / name / "rank-00000.h5"), name);
    EXPECT_TRUE(fs::is_empty(run / "plain"));
  }
  fs::create_directories(run / "plain" / "reference");
  std::ofstream(run / "plain" / "reference" / "x") << "x";
  EXPECT_EQ(make_folder_anew(run, "plain/reference"), run / kUnfinishedFolder / "plain.reference");
  EXPECT_TRUE(fs::is_empty(run / "plain" / "reference"));
}

TEST(CheckEarlierRun, RefusesAnotherExperimentAndAnotherWorld) {
  const ScratchFolder folder;
  EXPECT_NE(input_error_of([&] { check_earlier_run(folder.path(), experiment_of(), 2); }), "");
  const auto file = folder.path() / kExperimentFileName;
  std::ofstream(file) << dump(experiment_of());
  check_earlier_run(folder.path(), experiment_of(), 2);
  const auto other = input_error_of(
      [&] { check_earlier_run(folder.path(), experiment_of({"execution.iterations=77"}), 2); });
  EXPECT_NE(other.find("here 'iterations: 77'; go on with the same file"), std::string::npos)
      << other;
  fs::create_directory(folder.path() / "plain");
  std::ofstream(folder.path() / "plain" / "rank-00000.h5") << "cut off while it was made";
  check_earlier_run(folder.path(), experiment_of(), 3);
  test::write_full_file(folder.path() / "plain" / "rank-00001.h5", test::full_spec(1, 2));
  check_earlier_run(folder.path(), experiment_of(), 2);
  EXPECT_EQ(input_error_of([&] { check_earlier_run(folder.path(), experiment_of(), 3); }),
            folder.path().string() +
                ": this run was begun on 2 ranks, these are 3; go on with as many, or name a new "
                "folder with --out");
}

TEST(RequireSameBuild, AsksCompleteFilesForTheBuildOnly) {
  const ScratchFolder folder;
  const auto file = folder.path() / "rank-00000.h5";
  test::write_full_file(file, spec_of("abc"));
  require_same_build(file, spec_of("abc"));
  auto other_machine = spec_of("abc");
  other_machine.attributes[1].value = std::string("another CPU");
  require_same_build(file, other_machine);
  EXPECT_EQ(input_error_of([&] { require_same_build(file, spec_of("abd")); }),
            file.string() +
                ": was written by another build: git_revision is 'abc', here 'abd'; go "
                "on with that one, or name a new folder with --out");
  const auto unfinished = folder.path() / "rank-00001.h5";
  { const RankRecorder recorder(unfinished, spec_of("abc")); }
  require_same_build(unfinished, spec_of("abd"));
  require_same_build(folder.path() / "none.h5", spec_of("abd"));
}

}  // namespace
}  // namespace dovetail
