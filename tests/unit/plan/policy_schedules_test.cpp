// From a policy of an experiment to its schedules: overlap policies, files, and auto with its
// table.
#include "framework/plan/policy_schedules.hpp"

#include <fstream>
#include <utility>

#include <gtest/gtest.h>

#include "framework/base/scratch_folder.hpp"
#include "framework/plan/policy.hpp"
#include "framework/plan/schedule_check.hpp"
#include "framework/plan/schedule_file.hpp"
#include "framework/plan/schedule_json.hpp"
#include "framework/plan/step_time_setting.hpp"
#include "tests/support/input_error.hpp"

namespace dovetail {
namespace {

const ModelShape kModel{{{true, true}, {false, false}, {true, false}}};

class PolicySchedulesTest : public ::testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& text) {
    const auto path = (folder_.path() / name).string();
    std::ofstream(path) << text;
    return path;
  }

  /// A file of dual_batch under another name.
  std::string write_schedule(int num_ubatches) {
    auto schedule =
        policies().at("dual_batch").make_schedule({kModel, WorkPhase::prefill, num_ubatches});
    schedule.name = "own";
    return write("own.json", schedule_to_json(schedule));
  }

  /// The step times of sequential, and of the schedule and the split of `timed`.
  std::string write_table(const PolicyConfig& timed, double step_ms) {
    const auto schedules = make(timed);
    const auto point = [](const Schedule& schedule, const std::string& split, double ms) {
      return StepTimePoint{.policy = "any",
                           .schedule = schedule.name,
                           .schedule_digest = std::to_string(schedule_digest(schedule)),
                           .ubatches = schedule.num_ubatches,
                           .split = split,
                           .tokens = 64,
                           .step_ms = ms};
    };
    StepTimeTable table;
    table.setting = {{"device", "\"cpu\""}};
    table.points = {point(schedules.plain, "", 2.0),
                    point(schedules.own, step_time_split(timed.split), step_ms)};
    return write("table.json", step_time_table_to_json(table));
  }

  static PolicySchedules make(const PolicyConfig& policy,
                              const StepTimeSetting* setting = nullptr) {
    return make_policy_schedules(policy, kModel, WorkPhase::decode, setting);
  }

  static std::string refusal(const PolicyConfig& policy, const StepTimeSetting* setting = nullptr) {
    return testing::input_error_of([&] { make(policy, setting); });
  }

  static StagesConfig preset(const std::string& name) {
    StagesConfig stages;
    stages.preset = name;
    return stages;
  }

  static PolicyConfig policy(const std::string& schedule) {
    PolicyConfig config;
    config.name = "mine";
    config.schedule = schedule;
    return config;
  }

  ScratchFolder folder_;
};

TEST_F(PolicySchedulesTest, AreThoseOfTheOverlapPolicy) {
  auto staged = policy("staged");
  staged.ubatches = 3;
  staged.stages = preset("prefill");
  const auto schedules = make(staged);
  EXPECT_EQ(
      schedules.own,
      policies().at("staged").make_schedule({kModel, WorkPhase::decode, 3, preset("prefill")}));
  EXPECT_EQ(schedules.plain, policies().at("sequential").make_schedule({kModel}));
  EXPECT_FALSE(schedules.step_times);
  EXPECT_EQ(schedules.digest(), schedule_digest(schedules.own));
  staged.stages.reset();
  EXPECT_NE(make(staged).own, schedules.own) << "the phase is decode";
  staged.stages = preset("none");
  EXPECT_TRUE(refusal(staged).starts_with("policy mine: stages: unknown preset 'none'"));
}

TEST_F(PolicySchedulesTest, MayComeFromAFile) {
  const auto path = write_schedule(3);
  auto config = policy(path);
  EXPECT_EQ(make(config).own.name, "own");
  EXPECT_EQ(make(config).own.num_ubatches, 3);
  config.ubatches = 2;
  EXPECT_EQ(refusal(config),
            "policy mine: " + path +
                ": a schedule of 3 ubatches, the policy states 2; allowed: the same number, or "
                "none");
  config.ubatches = 0;
  config.split = {"sizes", {1, 2}};
  EXPECT_EQ(refusal(config), "policy mine: split: 2 sizes for the 3 ubatches of " + path);
  config.split = {"sizes", {1, 2, 3}};
  EXPECT_EQ(refusal(config), "");
  config.thresholds.decode = 2;
  EXPECT_EQ(refusal(config), "policy mine: a threshold of 2 tokens for the 3 ubatches of " + path);
  EXPECT_EQ(
      refusal(policy(path + "n.json")),
      "policy mine: " + path +
          "n.json: cannot be opened or read: No such file or directory; allowed: a schedule in "
          "JSON");
}

TEST_F(PolicySchedulesTest, OfAutoComeWithTheStepTimesOfTheCandidate) {
  auto config = policy("auto");
  config.table = write_table(policy("dual_batch"), 1.5);
  const auto schedules = make(config);
  EXPECT_EQ(schedules.own.name, "dual_batch");
  ASSERT_TRUE(schedules.step_times);
  EXPECT_EQ(schedules.step_times->plain[0].step_ms, 2.0);
  EXPECT_EQ(schedules.step_times->candidate[0].step_ms, 1.5);
  config.table = write_table(policy("dual_batch"), 1.25);
  EXPECT_NE(make(config).digest(), schedules.digest()) << "ranks with other tables must not agree";
  EXPECT_EQ(make(config).own, schedules.own);
  config.candidate = write_schedule(3);
  EXPECT_NE(refusal(config).find("no point for own with 3 ubatches"), std::string::npos)
      << refusal(config);
  config.table = write_table(policy(config.candidate), 1);
  EXPECT_EQ(make(config).own.num_ubatches, 3);
  config.table += "x";
  EXPECT_EQ(refusal(config),
            "policy mine: " + config.table +
                ": cannot be opened or read: No such file or directory; allowed: a table of step "
                "times in JSON");
}

TEST_F(PolicySchedulesTest, OfAutoNeedTheTableOfThisSetting) {
  auto config = policy("auto");
  config.table = write_table(policy("dual_batch"), 1.5);
  StepTimeSetting setting = {{"device", "\"cpu\""}};
  EXPECT_EQ(refusal(config, &setting), "");
  setting["device"] = "\"H100\"";
  EXPECT_EQ(refusal(config, &setting),
            "policy mine: " + config.table +
                ": the step times were measured in another setting: device: \"cpu\" in the table, "
                "\"H100\" in this run");
}

TEST_F(PolicySchedulesTest, OfAutoNeedTheTimesOfTheirOwnSchedule) {
  const auto with_stages = [](const std::string& name, const std::string& preset_name) {
    auto config = policy(name);
    config.candidate = "staged";
    config.stages = preset(preset_name);
    return config;
  };
  auto chooses = with_stages("auto", "prefill");
  chooses.table = write_table(with_stages("staged", "prefill"), 1);
  EXPECT_EQ(refusal(chooses), "");
  chooses.stages = preset("decode");
  EXPECT_NE(refusal(chooses).find("no point for staged of digest"), std::string::npos)
      << "other stages: " << refusal(chooses);

  auto file = policy("auto");
  file.candidate = write_schedule(3);
  file.table = write_table(policy(file.candidate), 1);
  EXPECT_EQ(refusal(file), "");
  auto edited = read_schedule_file(file.candidate, kModel, 0);
  std::swap(edited.ops.back(), edited.ops[edited.ops.size() - 2]);
  ASSERT_TRUE(schedule_errors(edited).empty());
  write("own.json", schedule_to_json(edited));
  EXPECT_NE(refusal(file).find("no point for own of digest"), std::string::npos)
      << "an edited file of the same name: " << refusal(file);

  auto cut = policy("dual_batch");
  cut.split = {"sizes", {3, 5}};
  auto sizes = policy("auto");
  sizes.split = cut.split;
  sizes.table = write_table(cut, 1);
  EXPECT_EQ(refusal(sizes), "");
  sizes.split.sizes = {5, 3};
  EXPECT_NE(refusal(sizes).find("and split sizes: 5, 3; it has: "), std::string::npos)
      << refusal(sizes);
}

TEST_F(PolicySchedulesTest, OfAutoNeedACandidateOfTwoUbatches) {
  auto config = policy("auto");
  config.table = write_table(policy("dual_batch"), 1);
  config.candidate = "staged";
  config.ubatches = 1;
  EXPECT_EQ(refusal(config),
            "policy mine: auto cannot choose the one ubatch of staged against sequential; allowed: "
            "2 to 8");
  config.candidate = "sequential";
  EXPECT_NE(refusal(config).find("policy auto cannot have 'sequential' as its candidate"),
            std::string::npos);
}

}  // namespace
}  // namespace dovetail
