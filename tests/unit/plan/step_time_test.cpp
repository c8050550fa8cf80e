// Tables of step times and what auto decides by them: reading, the setting, the choice of curves,
// and the decision against a slow search.
#include <cmath>
#include <fstream>
#include <random>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/scratch_folder.hpp"
#include "framework/plan/agreement.hpp"
#include "framework/plan/step_time_setting.hpp"
#include "framework/plan/step_time_table.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/pipe_file.hpp"
#include "tests/unit/plan/random_schedule.hpp"

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
  experiment.model = {"qwen3_moe", config, SeedWeights{1}, std::nullopt};
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

// ---- estimates and decisions ----

StepTimeSample sample(std::int64_t tokens,
                      double step_ms,
                      double context = 0,
                      bool decode = false) {
  return {{tokens, context, decode}, step_ms};
}

TEST(StepTimes, AreLinesBetweenPointsAndFlatOutside) {
  const StepTimeCurves curves = {{sample(100, 10), sample(200, 30), sample(400, 30)},
                                 {sample(100, 20), sample(200, 20)}};
  const auto at = [&](std::int64_t tokens) {
    const auto estimate = estimate_step_times(curves, {tokens, 0, false});
    return std::pair(estimate->plain_ms, estimate->candidate_ms);
  };
  EXPECT_EQ(at(100), std::pair(10.0, 20.0));
  EXPECT_EQ(at(125), std::pair(15.0, 20.0));
  EXPECT_EQ(at(1), std::pair(10.0, 20.0));
  EXPECT_EQ(at(300), std::pair(30.0, 20.0)) << "where both were measured last";
  EXPECT_EQ(estimate_step_times(curves, {125, 0, false})->tokens, 125);
  EXPECT_EQ(estimate_step_times(curves, {300, 0, false})->tokens, 200);
  EXPECT_FALSE(estimate_step_times(curves, {100, 0, true})) << "no decode was measured";
  EXPECT_FALSE(estimate_step_times({{sample(1, 1)}, {sample(2, 1)}}, {1, 0, false}));
  EXPECT_FALSE(estimate_step_times({}, {1, 0, false}));
}

StepTimeSample with_error(std::int64_t tokens, double step_ms, double error_ms) {
  auto timed = sample(tokens, step_ms);
  timed.error_ms = error_ms;
  return timed;
}

TEST(StepTimes, ErrorsOfBothMakeTheMargin) {
  const StepTimeCurves curves = {{with_error(100, 10, 3), with_error(200, 20, 3)},
                                 {with_error(100, 4, 4), with_error(200, 15, 4)}};
  const auto at = [&](std::int64_t tokens) {
    return *estimate_step_times(curves, {tokens, 0, false});
  };
  EXPECT_EQ(at(100).margin_ms, 5);
  EXPECT_NEAR(at(150).margin_ms, 5 * std::sqrt(0.5), 1e-12) << "of two points, half of each";
  const StepTimeCurves twice = {{with_error(100, 9, 3), with_error(100, 11, 4)}, {sample(100, 7)}};
  const auto mean = *estimate_step_times(twice, {100, 0, false});
  EXPECT_EQ(mean.plain_ms, 10);
  EXPECT_EQ(mean.margin_ms, 2.5);
}

/// A candidate must gain more than chance may, but for wide intervals no more than 1 % is forgone.
TEST(StepTimes, AGainWithinTheMarginIsForgoneUpToAHundredth) {
  const auto prefers = [](double plain_ms, double candidate_ms, double error_ms) {
    return estimate_step_times({{with_error(100, plain_ms, error_ms)}, {sample(100, candidate_ms)}},
                               {100, 0, false})
        ->prefers_candidate();
  };
  EXPECT_FALSE(prefers(100, 100, 0)) << "no faster";
  EXPECT_TRUE(prefers(100.1, 100, 0)) << "faster, and times are exact";
  EXPECT_FALSE(prefers(100.1, 100, 0.2)) << "less than the margin";
  EXPECT_TRUE(prefers(100.3, 100, 0.2)) << "more than the margin";
  EXPECT_FALSE(prefers(100.9, 100, 50)) << "a margin of half the step";
  EXPECT_TRUE(prefers(101.1, 100, 50)) << "plain may be slower by 1 % at most";
  EXPECT_FALSE(prefers(99, 100, 50)) << "slower";
}

TEST(StepTimes, AreThoseOfTheNearestContextThatBothHave) {
  const StepTimeCurves curves = {
      {sample(8, 1, 0, true), sample(8, 2, 100, true), sample(8, 3, 300, true)},
      {sample(8, 1, 100, true), sample(8, 1, 300, true), sample(8, 1, 120, true)}};
  const auto plain = [&](double context) {
    return estimate_step_times(curves, {8, context, true})->plain_ms;
  };
  EXPECT_EQ(plain(0), 2);
  EXPECT_EQ(plain(120), 2);
  EXPECT_EQ(plain(200), 2) << "the smaller of two equally near";
  EXPECT_EQ(plain(201), 3);
}

/// Straight from the definition: for each curve all pairs of neighbours.
std::optional<double> slow_time(const std::vector<StepTimeSample>& samples,
                                const std::vector<StepTimeSample>& others,
                                const StepLoad& load) {
  double context = NAN;
  for (const auto& a : samples) {
    for (const auto& b : others) {
      const double c = a.load.context_tokens;
      if (a.load.one_token_each != load.one_token_each ||
          b.load.one_token_each != load.one_token_each || b.load.context_tokens != c) {
        continue;
      }
      const double gap = std::abs(c - load.context_tokens);
      const double best = std::abs(context - load.context_tokens);
      if (std::isnan(context) || gap < best || (gap == best && c < context)) {
        context = c;
      }
    }
  }
  const auto range = [&](const std::vector<StepTimeSample>& all) {
    std::pair<std::int64_t, std::int64_t> r = {INT64_MAX, INT64_MIN};
    for (const auto& s : all) {
      if (s.load.one_token_each == load.one_token_each && s.load.context_tokens == context) {
        r = {std::min(r.first, s.load.tokens), std::max(r.second, s.load.tokens)};
      }
    }
    return r;
  };
  const auto first = std::max(range(samples).first, range(others).first);
  const auto last = std::min(range(samples).second, range(others).second);
  if (std::isnan(context) || first > last) {
    return std::nullopt;
  }
  const auto tokens = std::min(std::max(load.tokens, first), last);
  const auto mean_at = [&](std::int64_t where) {
    double sum = 0;
    int count = 0;
    for (const auto& s : samples) {
      if (s.load == StepLoad{where, context, load.one_token_each}) {
        sum += s.step_ms;
        ++count;
      }
    }
    return count == 0 ? NAN : sum / count;
  };
  std::int64_t below = tokens;
  std::int64_t above = tokens;
  while (std::isnan(mean_at(below))) {
    --below;
  }
  while (std::isnan(mean_at(above))) {
    ++above;
  }
  if (below == above) {
    return mean_at(below);
  }
  return (mean_at(below) * static_cast<double>(above - tokens) +
          mean_at(above) * static_cast<double>(tokens - below)) /
         static_cast<double>(above - below);
}

std::vector<StepTimeSample> random_samples(std::mt19937_64& random) {
  std::vector<StepTimeSample> samples(random() % 8);
  for (auto& one : samples) {
    one.load = {static_cast<std::int64_t>(random() % 30),
                static_cast<double>(random() % 3) * 10,
                random() % 3 == 0};
    one.step_ms = static_cast<double>(1 + random() % 100) / 4;
  }
  return samples;
}

AgreementMessage message_for(const StepLoad& load) {
  Batch batch;
  if (load.one_token_each) {
    for (std::int64_t i = 0; i < load.tokens; ++i) {
      batch.requests.push_back({i, 1, static_cast<std::int64_t>(load.context_tokens)});
    }
  } else {
    batch.requests.push_back({0, load.tokens, static_cast<std::int64_t>(load.context_tokens)});
  }
  return make_message({Rank(0), batch, {}, 1});
}

TEST(Automatic, DecidesAsASlowSearchDoes) {
  std::mt19937_64 random(testing::fresh_seed());
  std::array<int, names<VetoReason>().size()> reasons{};
  for (int round = 0; round < 4000; ++round) {
    const StepTimeCurves curves = {random_samples(random), random_samples(random)};
    const StepLoad load{2 + static_cast<std::int64_t>(random() % 35),
                        static_cast<double>(random() % 31),
                        random() % 3 == 0};
    const auto message = message_for(load);
    ASSERT_EQ(load_of(message), load);
    const AgreementRule rule{2, WorkPhase::mixed, 0, 0, &curves};
    const auto decision = decide(message, rule);
    ++reasons.at(static_cast<std::size_t>(decision.reason));
    EXPECT_EQ(decision.ubatched, decision.reason == VetoReason::none);
    const auto plain = slow_time(curves.plain, curves.candidate, load);
    const auto candidate = slow_time(curves.candidate, curves.plain, load);
    ASSERT_EQ(plain.has_value(), candidate.has_value());
    if (!plain) {
      EXPECT_EQ(decision.reason, VetoReason::table_has_no_point);
    } else if (std::abs(*plain - *candidate) > 1e-9) {
      EXPECT_EQ(decision.ubatched, *candidate < *plain) << *candidate << " " << *plain;
      EXPECT_TRUE(decision.ubatched || decision.reason == VetoReason::table_prefers_plain);
    }
  }
  for (const auto reason :
       {VetoReason::none, VetoReason::table_prefers_plain, VetoReason::table_has_no_point}) {
    EXPECT_GT(reasons.at(static_cast<std::size_t>(reason)), 100) << to_string(reason);
  }
}

TEST(Automatic, MayNeverOverlapAndDecidesForPlainWhereTimesAreEqual) {
  const auto decide_at = [](const StepTimeCurves& curves, std::int64_t tokens) {
    return decide(message_for({tokens, 0, false}), {2, WorkPhase::prefill, 0, 0, &curves}).reason;
  };
  const StepTimeCurves slower = {{sample(10, 1), sample(1000, 50)},
                                 {sample(10, 2), sample(1000, 51)}};
  for (const std::int64_t tokens : {2, 10, 500, 1000, 100'000}) {
    EXPECT_EQ(decide_at(slower, tokens), VetoReason::table_prefers_plain);
  }
  const StepTimeCurves equal = {{sample(10, 1)}, {sample(10, 1)}};
  EXPECT_EQ(decide_at(equal, 10), VetoReason::table_prefers_plain);
  const StepTimeCurves crossing = {{sample(10, 1), sample(1000, 50)},
                                   {sample(10, 2), sample(1000, 30)}};
  EXPECT_EQ(decide_at(crossing, 10), VetoReason::table_prefers_plain);
  EXPECT_EQ(decide_at(crossing, 1000), VetoReason::none);
}

TEST(Automatic, KeepsThresholdsAndVetoes) {
  const StepTimeCurves faster = {{sample(10, 2)}, {sample(10, 1)}};
  AgreementRule rule{2, WorkPhase::prefill, 11, 0, &faster};
  EXPECT_EQ(decide(message_for({10, 0, false}), rule).reason, VetoReason::below_threshold);
  EXPECT_EQ(decide(message_for({11, 0, false}), rule).reason, VetoReason::none);
  auto vetoed = message_for({11, 0, false});
  vetoed.vetoes = 1;
  vetoed.veto_reason = static_cast<std::int64_t>(VetoReason::rank_veto);
  EXPECT_EQ(decide(vetoed, rule).reason, VetoReason::rank_veto);
  EXPECT_EQ(decide(message_for({0, 0, false}), rule).reason, VetoReason::no_work);
}

TEST(Automatic, TakesTheLoadOfAllRanks) {
  const Batch a{{{0, 1, 100}, {1, 1, 200}, {2, 0, 999}}};
  const Batch b{{{3, 1, 600}}};
  const auto both = reduce(make_message({Rank(0), a, {}, 1}), make_message({Rank(1), b, {}, 1}));
  EXPECT_EQ(load_of(both), (StepLoad{2, 300.0, true})) << "requests without tokens do not count";
  const auto mixed = reduce(both, make_message({Rank(2), Batch{{{4, 7, 0}}}, {}, 1}));
  EXPECT_EQ(load_of(mixed), (StepLoad{7, 225.0, false}));
}

TEST(StepTimes, HaveADigestThatTellsThemApart) {
  const StepTimeCurves a = {{sample(10, 1)}, {sample(10, 2)}};
  StepTimeCurves b = a;
  EXPECT_EQ(curves_digest(a), curves_digest(b));
  b.candidate[0].step_ms = std::nextafter(2.0, 3.0);
  EXPECT_NE(curves_digest(a), curves_digest(b));
  b = a;
  b.plain[0].error_ms = 0.5;
  EXPECT_NE(curves_digest(a), curves_digest(b));
  b = {a.candidate, a.plain};
  EXPECT_NE(curves_digest(a), curves_digest(b));
  b = {{sample(10, 1), sample(10, 2)}, {}};
  EXPECT_NE(curves_digest(a), curves_digest(b));
}

}  // namespace
}  // namespace dovetail
