// Tables of step times: reading, the setting that they belong to, the points of a candidate.
#include "framework/plan/step_time_table.hpp"

#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/scratch_folder.hpp"
#include "framework/plan/step_time_setting.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/pipe_file.hpp"

namespace dovetail {
namespace {

const std::string kTable = R"({"version": 2,
  "setting": {"dtype": "float32", "world_size": 2, "link": {"latency_us": 5.0}},
  "points": [
    {"policy": "plain", "schedule": "sequential", "schedule_digest": "11", "ubatches": 1,
     "tokens": 64,
     "context_tokens": 0, "one_token_each": false, "step_ms": 2.0},
    {"policy": "dual", "schedule": "dual_batch", "schedule_digest": "22", "ubatches": 2,
     "split": "request", "tokens": 64, "context_tokens": 0.5, "one_token_each": true, "step_ms": 1.5},
    {"policy": "dual", "schedule": "dual_batch", "schedule_digest": "22", "ubatches": 2,
     "split": "request", "tokens": 128, "context_tokens": 0, "one_token_each": false, "step_ms": 3}]})";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(StepTimeTable, ReadsATableAndOneThatASweepHolds) {
  const auto table = parse_step_time_table(kTable, "t.json");
  EXPECT_EQ(table.setting.at("dtype"), "\"float32\"");
  EXPECT_EQ(table.setting.at("world_size"), "2");
  ASSERT_EQ(table.points.size(), 3U);
  EXPECT_EQ(table.points[1],
            (StepTimePoint{"dual", "dual_batch", "22", 2, "request", 0, 64, 0.5, true, 1.5}));
  EXPECT_EQ(table.points[0].split, "");
  const auto held = parse_step_time_table("{\"runs\": [], \"step_times\": " + kTable + "}", "s");
  EXPECT_EQ(held.points, table.points);
  EXPECT_EQ(held.setting, table.setting);
  const auto again = parse_step_time_table(step_time_table_to_json(table), "again");
  EXPECT_EQ(again.points, table.points);
  EXPECT_EQ(again.setting, table.setting);
  const ScratchFolder folder;
  const auto path = (folder.path() / "table.json").string();
  std::ofstream(path) << kTable;
  EXPECT_EQ(read_step_time_table(path).points, table.points);
  EXPECT_EQ(testing::input_error_of([&] { read_step_time_table(path + "x"); }),
            path +
                "x: cannot be opened or read: No such file or directory; allowed: a table of step "
                "times in JSON");
  testing::expect_pipe_refused(path, [&] { read_step_time_table(path); });
  Experiment experiment;
  experiment.model.config = path;
  testing::expect_pipe_refused(path,
                               [&] { step_time_setting(experiment, experiment.execution, {}, 1); });
}

TEST(StepTimeTable, NamesThePlaceOfWhatIsWrong) {
  const auto error = [](const std::string& from, const std::string& to) {
    return testing::input_error_of(
        [&] { parse_step_time_table(replaced(kTable, from, to), "t.json"); });
  };
  EXPECT_EQ(error("\"version\": 2", "\"version\": 1"),
            "t.json: version: only version 2 is known to this build")
      << "version 1 does not state digests";
  EXPECT_EQ(error("\"schedule_digest\": \"11\", ", ""),
            "t.json: points[0]: key 'schedule_digest' is missing");
  EXPECT_EQ(error("\"11\"", "11"),
            "t.json: points[0].schedule_digest: a string is needed, not number");
  EXPECT_EQ(error("\"tokens\": 128", "\"tokens\": -1"),
            "t.json: points[2].tokens: an integer from 0 to 1099511627776 is needed, not -1");
  EXPECT_EQ(error("\"step_ms\": 1.5", "\"step_ms\": \"1\""),
            "t.json: points[1].step_ms: a number of at least 0.0 is needed, not \"1\"");
  EXPECT_EQ(error("\"ubatches\": 1", "\"ubatches\": 9"),
            "t.json: points[0].ubatches: an integer from 1 to 8 is needed, not 9");
  EXPECT_EQ(error("\"one_token_each\": true", "\"one_token_each\": 1"),
            "t.json: points[1].one_token_each: true or false is needed, not number");
  EXPECT_EQ(error("\"tokens\": 128", "\"token\": 128").find("t.json: points[2]: unknown key"), 0U);
  EXPECT_EQ(error("\"step_ms\": 3", "\"step_ms\": 3, \"x\": 1").find("t.json: points[2]: unk"), 0U);
  EXPECT_EQ(error("\"step_ms\": 1.5", "\"split\": \"request\""),
            "t.json: line 8, byte 468: key 'split' is there twice in one object");
  EXPECT_EQ(error("\"setting\"", "\"settings\"").find("t.json: unknown key 'settings'"), 0U);
  EXPECT_EQ(error("\"step_ms\": 3", "\"step_ms\": 1e999").find("t.json: not JSON"), 0U);
  EXPECT_EQ(testing::input_error_of(
                [] { parse_step_time_table("{\"step_times\": {\"version\": 1}}", "s"); }),
            "s: step_times: key 'setting' is missing");
  EXPECT_EQ(testing::input_error_of([] { parse_step_time_table("{\"step_times\": null}", "s"); }),
            "s: step_times: none; the sweep has timed no complete step");
  EXPECT_EQ(testing::input_error_of([] { parse_step_time_table("[]", "s"); }),
            "s: an object is needed, not array");
}

TEST(StepTimeTable, MustBeOfTheRunsSetting) {
  const auto table = parse_step_time_table(kTable, "t.json");
  StepTimeSetting run = {
      {"dtype", "\"float32\""}, {"world_size", "2"}, {"link", "{\"latency_us\": 5}"}};
  EXPECT_NO_THROW(check_setting(table, run)) << "5 and 5.0 are one number";
  run["dtype"] = "\"bfloat16\"";
  run["device"] = "\"cpu\"";
  run.erase("world_size");
  EXPECT_EQ(testing::input_error_of([&] { check_setting(table, run); }),
            "t.json: the step times were measured in another setting: device: not stated by the "
            "table, this run has \"cpu\"; dtype: \"float32\" in the table, \"bfloat16\" in this "
            "run; world_size: 2 in the table, unknown to this run");
}

Experiment small_experiment(const std::string& config) {
  Experiment experiment;
  experiment.model = {"qwen3_moe", config, SeedWeights{1}, AllLayers{}};
  return experiment;
}

/// Each condition that a step time depends on changes the setting.
TEST(StepTimeSetting, TellsRunsApart) {
  const ScratchFolder folder;
  const auto config = (folder.path() / "config.json").string();
  std::ofstream(config) << "{\"hidden_size\": 64}";
  const auto base = small_experiment(config);
  const auto resolved_to = [](const std::string& exchange, const std::string& device) {
    ResolvedExecution resolved;
    resolved.exchange = exchange;
    resolved.device_name = device;
    resolved.device = device == "cpu" ? DeviceKind::cpu : DeviceKind::cuda;
    return resolved;
  };
  const auto run = resolved_to("ragged", "cpu");
  const auto setting = step_time_setting(base, base.execution, run, 2);
  EXPECT_EQ(setting.at("exchange"), "\"ragged\"");
  EXPECT_EQ(setting.at("layers"), "\"all\"");
  StepTimeTable table{"t", setting, {}};
  EXPECT_NO_THROW(
      check_setting(parse_step_time_table(step_time_table_to_json(table), "t"), setting));
  std::vector<StepTimeSetting> others = {
      step_time_setting(base, base.execution, run, 4),
      step_time_setting(base, base.execution, resolved_to("gather", "cpu"), 2),
      step_time_setting(base, base.execution, resolved_to("ragged", "H100"), 2)};
  const auto with_experiment = [&](const std::function<void(Experiment&)>& change) {
    auto experiment = base;
    change(experiment);
    others.push_back(step_time_setting(experiment, experiment.execution, run, 2));
  };
  with_experiment([](Experiment& e) { e.model.layers = LayerRange{0, 2}; });
  with_experiment([](Experiment& e) { e.model.layers = FirstLayers{2}; });
  with_experiment([](Experiment& e) { e.parallel.expert_parallel = 2; });
  with_experiment([](Experiment& e) { e.workload.phase = WorkPhase::decode; });
  with_experiment([](Experiment& e) { e.workload.routing = BalancedRouting{}; });
  with_experiment([](Experiment& e) { e.workload.routing = ZipfRouting{1.5}; });
  with_experiment([](Experiment& e) { e.execution.dtype = DType::bfloat16; });
  with_experiment([](Experiment& e) { e.execution.hand_off = HandOff::inline_walk; });
  for (const double gbytes_per_s : {2.0, 3.0}) {
    with_experiment([&](Experiment& e) {
      e.parallel.expert_parallel = 2;
      e.execution.link = LinkConfig{1, gbytes_per_s};
    });
  }
  const auto gpu = resolved_to("padded", "H100");
  for (const std::vector<std::int64_t>& sizes : {{8}, std::vector<std::int64_t>{8, 16}}) {
    auto sized = base;
    sized.execution.graph_sizes = sizes;
    others.push_back(step_time_setting(sized, sized.execution, gpu, 2));
    EXPECT_EQ(step_time_setting(sized, sized.execution, run, 2), setting) << "on the CPU";
  }
  auto alone = base;  // without peers there is no link
  alone.execution.link = LinkConfig{1, 2};
  EXPECT_EQ(step_time_setting(alone, alone.execution, run, 2), setting);
  std::ofstream(config) << "{\"hidden_size\": 65}";
  others.push_back(step_time_setting(base, base.execution, run, 2));
  others.push_back(setting);
  for (std::size_t i = 0; i < others.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      EXPECT_NE(others[i], others[j]) << i << " " << j;
    }
  }
  auto absent = base;
  absent.model.config += "x";
  EXPECT_THROW(step_time_setting(absent, absent.execution, run, 2), InputError);
}

const StepTimeCandidate kPlain = {"sequential", "11", 1, ""};
const StepTimeCandidate kDual = {"dual_batch", "22", 2, "request"};

/// Points of one policy under several numbers of SMs are curves of their own.
TEST(StepTimeTable, PointsSayTheSmsOfTheExchange) {
  auto table = parse_step_time_table(kTable, "t.json");
  for (auto& point : table.points) {
    point.comm_sms = point.policy == "dual" ? 8 : kAllSms;
  }
  const auto text = step_time_table_to_json(table);
  EXPECT_NE(text.find("\"comm_sms\": \"all\""), std::string::npos) << text;
  EXPECT_EQ(parse_step_time_table(text, "t.json").points, table.points);
  for (const auto* wrong : {"-1", "\"ALL\"", "1.5", "null"}) {
    auto other = nlohmann::json::parse(text);
    other["points"][1]["comm_sms"] = nlohmann::json::parse(wrong);
    EXPECT_TRUE(testing::input_error_of([&] {
                  parse_step_time_table(other.dump(), "t.json");
                }).starts_with("t.json: points[1].comm_sms"))
        << wrong;
  }
  const auto curves = select_curves(table, kPlain, kDual);
  EXPECT_EQ(curves.plain_comm_sms, kAllSms);
  EXPECT_EQ(curves.candidate_comm_sms, 8);
  EXPECT_NE(curves_digest(curves),
            curves_digest(select_curves(parse_step_time_table(kTable, "t.json"), kPlain, kDual)));

  auto both = table;
  for (const auto& point : table.points) {
    both.points.push_back(point);
    both.points.back().comm_sms = 16;
    both.points.back().step_ms = 99;
  }
  EXPECT_NE(testing::input_error_of([&] { select_curves(both, kPlain, kDual); }).find("comm_sms"),
            std::string::npos);
  auto plain = kPlain;
  auto dual = kDual;
  plain.comm_sms = dual.comm_sms = 16;
  EXPECT_EQ(select_curves(both, plain, dual).candidate_comm_sms, 16);
  EXPECT_EQ(select_curves(both, plain, dual).plain.front().step_ms, 99);
}

/// An earlier version stated them once, in the setting.
TEST(StepTimeTable, ReadsTheSmsOfAnOlderTable) {
  auto text = nlohmann::json::parse(kTable);
  auto& root = text.contains("step_times") ? text["step_times"] : text;
  root["setting"]["comm_sms"] = 16;
  const auto table = parse_step_time_table(text.dump(), "t.json");
  EXPECT_EQ(table.setting.count("comm_sms"), 0U);
  for (const auto& point : table.points) {
    EXPECT_EQ(point.comm_sms, 16);
  }
}

TEST(StepTimeTable, SelectsTheCandidatesPoints) {
  auto table = parse_step_time_table(kTable, "t.json");
  const auto curves = select_curves(table, kPlain, kDual);
  EXPECT_EQ(curves.plain, (std::vector<StepTimeSample>{{{64, 0, false}, 2.0}}));
  EXPECT_EQ(curves.candidate,
            (std::vector<StepTimeSample>{{{64, 0.5, true}, 1.5}, {{128, 0, false}, 3}}));
  EXPECT_EQ(testing::input_error_of([&] {
              select_curves(table, kPlain, {"dual_batch", "23", 2, "request"});
            }),
            "t.json: the table of step times has no point for dual_batch of digest 23 with 2 "
            "ubatches and split request; it has: dual (dual_batch of digest 22 with 2 ubatches and "
            "split request), plain (sequential of digest 11 with 1 ubatch)");
  EXPECT_EQ(testing::input_error_of([&] {
              select_curves(table, kPlain, {"staged", "23", 2, "request"});
            }),
            "t.json: the table of step times has no point for staged with 2 ubatches and split "
            "request; it has: dual (dual_batch with 2 ubatches and split request), plain "
            "(sequential with 1 ubatch)")
      << "names tell them apart";
  for (const auto& other : std::vector<StepTimeCandidate>{{"dual_batch", "22", 3, "request"},
                                                          {"dual_batch", "22", 2, "sizes: 3, 5"},
                                                          {"dual_batch", "22", 2, ""},
                                                          {"staged", "22", 2, "request"}}) {
    EXPECT_NE(testing::input_error_of([&] { select_curves(table, kPlain, other); }), "");
  }
  EXPECT_NE(testing::input_error_of([&] {
              select_curves(table, {"sequential", "12", 1, ""}, kDual);
            }).find("no point for sequential of digest 12 with 1 ubatch; it has: dual"),
            std::string::npos);
  auto two = table;
  two.points.push_back(two.points[1]);
  two.points.back().policy = "other";
  EXPECT_EQ(
      testing::input_error_of([&] { select_curves(two, kPlain, kDual); }),
      "t.json: the table of step times has several policies for dual_batch with 2 ubatches and "
      "split request: dual (dual_batch with 2 ubatches and split request), other (dual_batch "
      "with 2 ubatches and split request); allowed: one");
  two.points.back().split = "token_midpoint";
  EXPECT_NO_THROW(select_curves(two, kPlain, kDual));
}

/// A sweep over the stages of a policy: one label, one name, as many schedules as values.
TEST(StepTimeTable, TellsSchedulesOfOneNameApart) {
  auto table = parse_step_time_table(kTable, "t.json");
  for (std::size_t i : {1U, 2U}) {
    table.points.push_back(table.points[i]);
    table.points.back().schedule_digest = "33";
    table.points.back().step_ms = 100;
  }
  auto other = kDual;
  other.schedule_digest = "33";
  EXPECT_EQ(select_curves(table, kPlain, kDual).candidate,
            (std::vector<StepTimeSample>{{{64, 0.5, true}, 1.5}, {{128, 0, false}, 3}}));
  EXPECT_EQ(select_curves(table, kPlain, other).candidate,
            (std::vector<StepTimeSample>{{{64, 0.5, true}, 100}, {{128, 0, false}, 100}}));
}

TEST(StepTimeTable, StatesSplitsWithTheirSizes) {
  EXPECT_EQ(step_time_split({"request", {}}), "request");
  EXPECT_EQ(step_time_split({"sizes", {3, 5}}), "sizes: 3, 5");
}

TEST(StepTimeTable, RefusesValuesTooDeepWithinEachOther) {
  for (const char* key : {"setting", "points"}) {
    const std::string text = std::string("{\n\"") + key + "\": " + std::string(60'000, '[') +
                             std::string(60'000, ']') + "}";
    const auto at = text.find('[') + 15;
    EXPECT_EQ(testing::input_error_of([&] { parse_step_time_table(text, "t.json"); }),
              "t.json: line 2, byte " + std::to_string(at) +
                  ": values too deep within each other; allowed: at most 16 arrays and objects");
  }
}

}  // namespace
}  // namespace dovetail
