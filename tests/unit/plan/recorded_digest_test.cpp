// Digests that stand in files which others keep (tables of step times, rank files) or that ranks of
// one run compare: their values never change.
#include <string>

#include <gtest/gtest.h>

#include "framework/base/hash.hpp"
#include "framework/plan/graph_key.hpp"
#include "framework/plan/policy.hpp"
#include "framework/plan/request_trace.hpp"
#include "framework/plan/schedule_check.hpp"
#include "framework/plan/step_time_setting.hpp"
#include "framework/plan/step_time_table.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

const std::string kTop = DOVETAIL_SOURCE_DIR;

/// The model of models/configs/qwen3-moe-tiny.json.
Schedule schedule_of(const std::string& policy, int num_ubatches) {
  const ModelShape model{std::vector<LayerShape>(4, testing::kShared)};
  return policies().at(policy).make_schedule({model, WorkPhase::prefill, num_ubatches});
}

TEST(RecordedDigests, OfNumbers) {
  EXPECT_EQ(mix_bits(0), 0xe220a8397b1dcdafULL) << "SplitMix64's first number of seed 0";
  EXPECT_EQ(combine_hash(1, 2), 0xe06dd043328bd285ULL);
  EXPECT_EQ(combine_hash(combine_hash(0, 'a'), 0xff), 0xbd018f042b963f7ULL);
}

TEST(RecordedDigests, OfSchedulesAreThoseOfTheCommittedTable) {
  const auto table = read_step_time_table(kTop + "/experiments/auto_table.json");
  int num_checked = 0;
  for (const auto& point : table.points) {
    const auto digest = schedule_digest(schedule_of(point.schedule, point.ubatches));
    EXPECT_EQ(std::to_string(digest), point.schedule_digest) << point.schedule;
    ++num_checked;
  }
  EXPECT_EQ(num_checked, 24);
  auto renamed = schedule_of("shared_expert", 1);
  EXPECT_EQ(schedule_digest(renamed), 0xcb8d8a3c563f9f9fULL);
  renamed.name =
      "einge\xc3\xbc"
      "bt";
  EXPECT_EQ(schedule_digest(renamed), 0xb1a63ab78cfb26baULL)
      << "bytes above 127 count as negative numbers";
}

TEST(RecordedDigests, OfAModelIsThatOfTheCommittedTable) {
  const auto table = read_step_time_table(kTop + "/experiments/auto_table.json");
  Experiment experiment;
  experiment.model.architecture = "qwen3_moe";
  experiment.model.config = kTop + "/models/configs/qwen3-moe-tiny.json";
  const auto setting = step_time_setting(experiment, experiment.execution, {}, 1);
  EXPECT_EQ(setting.at("model"), table.setting.at("model"));
}

TEST(RecordedDigests, OfAGraphKey) {
  GraphKey key;
  key.schedule_digest = 0xabcULL;
  key.bounds.num_ubatches = 2;
  key.bounds.tokens = {64, 32};
  key.exchange = "padded";
  EXPECT_EQ(digest(key), 0x19ea36b4fc879360ULL);
}

TEST(RecordedDigests, OfATrace) {
  const auto trace = parse_request_trace(
      "{\"length\": 12}\n{\"input_ids\": [1, 2, 3], \"context_length\": 7, \"rank\": 1}\n", "t");
  EXPECT_EQ(trace.digest, 0xaf0778e2df1b7d20ULL);
}

TEST(RecordedDigests, OfStepTimes) {
  const StepTimeCurves curves{{{{64, 0.5, false}, 2.0}}, {{{64, 0.5, true}, 1.5}}};
  EXPECT_EQ(curves_digest(curves), 0x776a585fb0900c2fULL);
  auto with_error = curves;
  with_error.plain.front().error_ms = 0.1;
  EXPECT_NE(curves_digest(with_error), curves_digest(curves));
}

}  // namespace
}  // namespace dovetail
