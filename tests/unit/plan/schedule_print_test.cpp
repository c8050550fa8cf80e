// Table, JSON and DOT of schedules; JSON is read back, also when it is broken.
#include "framework/plan/schedule_print.hpp"

#include <algorithm>
#include <random>
#include <sstream>
#include <tuple>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/plan/policy.hpp"
#include "framework/plan/schedule_check.hpp"
#include "framework/plan/schedule_json.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

using testing::kShared;

Schedule small() {
  return policies().at("dual_batch").make_schedule({{{kShared}}, WorkPhase::prefill, 2});
}

std::string read_error(const std::string& text) {
  try {
    schedule_from_json(text, "s.json");
  } catch (const InputError& error) {
    EXPECT_EQ(error.exit_code(), 2);
    return error.what();
  }
  return "accepted";
}

TEST(ScheduleJson, ReadsBackWhatItWrites) {
  for (const auto& layers : testing::layer_mixes()) {
    for (const auto& schedule : testing::all_policy_schedules(layers)) {
      EXPECT_EQ(schedule_from_json(schedule_to_json(schedule), "x"), schedule);
    }
  }
  std::mt19937_64 random(testing::fresh_seed());
  for (int i = 0; i < 100; ++i) {
    const Schedule schedule = testing::random_schedule(random);
    const Schedule again = schedule_from_json(schedule_to_json(schedule), "x");
    EXPECT_EQ(again, schedule);
    EXPECT_EQ(schedule_digest(again), schedule_digest(schedule));
  }
}

TEST(ScheduleJson, KeepsNamesWithQuotes) {
  Schedule schedule = small();
  schedule.name = "a \"b\" \\ \n c";
  EXPECT_EQ(schedule_from_json(schedule_to_json(schedule), "x").name, schedule.name);
}

TEST(ScheduleJson, NamesThePlaceOfABadValue) {
  struct Case {
    const char* pointer;
    nlohmann::json value;
    const char* message;
  };

  const auto good = nlohmann::json::parse(schedule_to_json(small()));
  const std::vector<Case> cases = {
      {"/num_ubatches", 0, "s.json: num_ubatches: an integer from 1"},
      {"/num_ubatches", 1.5, "s.json: num_ubatches: an integer from 1"},
      {"/num_ubatches", 4'294'967'297, "s.json: num_ubatches: an integer from 1"},
      {"/num_ubatches", 18'446'744'073'709'551'615U, "s.json: num_ubatches: an integer from 1"},
      {"/schedule", 3, "s.json: schedule: a string is needed, not number"},
      {"/layers", nullptr, "s.json: layers: an array is needed, not null"},
      {"/layers/0/is_moe", 1, "s.json: layers[0].is_moe: true or false is needed, not number"},
      {"/layers/0/extra", 1, "s.json: layers[0]: unknown key 'extra'; allowed: is_moe"},
      {"/ops", "x", "s.json: ops: an array is needed, not string"},
      {"/ops/3", 3, "s.json: ops[3]: an object is needed, not number"},
      {"/ops/3/op", 4, "s.json: ops[3].op: ops are numbered from 0 in order; 3 is due"},
      {"/ops/3/lane", "gpu", "s.json: ops[3].lane: unknown lane 'gpu'; allowed: compute, comm"},
      {"/ops/3/phase", "x", "s.json: ops[3].phase: unknown phase 'x'; allowed: embed, attention"},
      {"/ops/3/layer", -2, "s.json: ops[3].layer: an integer from -1"},
      {"/ops/3/ubatch", -1, "s.json: ops[3].ubatch: an integer from 0"},
      {"/ops/3/waits/0", "1", "s.json: ops[3].waits: an integer from 0"},
      {"/stray", 1, "s.json: unknown key 'stray'; allowed: schedule, num_ubatches, layers, ops"},
  };
  for (const auto& bad : cases) {
    auto changed = good;
    changed[nlohmann::json::json_pointer(bad.pointer)] = bad.value;
    EXPECT_EQ(read_error(changed.dump()).rfind(bad.message, 0), 0U)
        << bad.pointer << ": " << read_error(changed.dump());
  }
}

TEST(ScheduleJson, RefusesWhatIsMissingTwiceOrNoJson) {
  auto missing = nlohmann::json::parse(schedule_to_json(small()));
  missing["ops"][2].erase("waits");
  EXPECT_EQ(read_error(missing.dump()), "s.json: ops[2]: key 'waits' is missing");
  EXPECT_EQ(read_error(R"({"schedule": "a", "schedule": "b"})"),
            "s.json: line 1, byte 27: key 'schedule' is there twice in one object");
  EXPECT_EQ(read_error(schedule_to_json(small()) + std::string("\0x", 2))
                .rfind("s.json: not JSON: a NUL byte in line ", 0),
            0U);
  EXPECT_EQ(read_error("").rfind("s.json: not JSON: ", 0), 0U);
  EXPECT_EQ(read_error("[1, 2]"), "s.json: an object is needed, not array");
  EXPECT_EQ(
      read_error(std::string(100'000, '[')).rfind("s.json: line 1, byte 16: values too deep", 0),
      0U);
  const std::string text = schedule_to_json(small());
  for (std::size_t cut = 0; cut + 2 < text.size(); ++cut) {
    EXPECT_EQ(read_error(text.substr(0, cut)).rfind("s.json: not JSON: ", 0), 0U) << cut;
  }
}

TEST(ScheduleJson, HasGroupsWhereExpertsAreCut) {
  EXPECT_EQ(schedule_to_json(small()).find("group"), std::string::npos);
  const auto cut =
      policies().at("expert_groups").make_schedule({{{kShared}}, WorkPhase::prefill, 1, {}, 2});
  const auto json = nlohmann::json::parse(schedule_to_json(cut));
  EXPECT_EQ(json["num_groups"], 2);
  EXPECT_EQ(json["ops"][4]["group"], 1);
  EXPECT_FALSE(json["ops"][0].contains("group"));
  for (const auto& [pointer, value, message] :
       std::vector<std::tuple<const char*, nlohmann::json, const char*>>{
           {"/num_groups", 0, "s.json: num_groups: an integer from 1"},
           {"/ops/4/group", -1, "s.json: ops[4].group: an integer from 0"},
           {"/ops/4/group", "1", "s.json: ops[4].group: an integer from 0"}}) {
    auto changed = json;
    changed[nlohmann::json::json_pointer(pointer)] = value;
    EXPECT_EQ(read_error(changed.dump()).rfind(message, 0), 0U) << read_error(changed.dump());
  }
  auto without = json;
  without.erase("num_groups");
  EXPECT_FALSE(schedule_errors(schedule_from_json(without.dump(), "s.json")).empty())
      << "groups of an uncut schedule";
}

TEST(ScheduleTable, NamesGroups) {
  const auto cut =
      policies().at("expert_groups").make_schedule({{{kShared}}, WorkPhase::prefill, 1, {}, 2});
  const std::string table = schedule_to_table(cut);
  EXPECT_EQ(table.rfind("schedule expert_groups: 1 ubatch, experts in 2 groups, 1 layer, ", 0), 0U)
      << table;
  EXPECT_NE(table.find("4      0       0                      dispatch g1\n"), std::string::npos)
      << table;
  EXPECT_NE(schedule_to_dot(cut).find("4 dispatch g1"), std::string::npos);
}

TEST(ScheduleTable, HasALineAnOpAndAHandOver) {
  const Schedule schedule = small();
  const std::string table = schedule_to_table(schedule);
  const auto lines = std::count(table.begin(), table.end(), '\n');
  EXPECT_EQ(lines, 2 + 16 + 5);
  EXPECT_NE(table.find("9      0       0                      combine         8\n"),
            std::string::npos)
      << table;
  EXPECT_NE(table.find("-- ubatch 0 hands over to ubatch 1"), std::string::npos);
}

/// Enough of graphviz' grammar for what is printed: statements end in ';' or braces, quotes and
/// braces match, edges name nodes that are declared.
void check_dot(const std::string& dot, std::size_t num_ops, std::size_t num_waits) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < dot.size(); ++i) {
    if (dot[i] == '\\' && in_string) {
      ++i;
    } else if (dot[i] == '"') {
      in_string = !in_string;
    } else if (!in_string) {
      depth += dot[i] == '{' ? 1 : dot[i] == '}' ? -1 : 0;
      ASSERT_GE(depth, 0);
    }
  }
  EXPECT_EQ(depth, 0);
  EXPECT_FALSE(in_string);
  std::size_t nodes = 0;
  std::size_t waits = 0;
  std::istringstream lines(dot);
  for (std::string line; std::getline(lines, line);) {
    const char end = line.back();
    EXPECT_TRUE(end == ';' || end == '{' || end == '}') << line;
    nodes += line.rfind("    op", 0) == 0 && line.find("[label=") != std::string::npos ? 1 : 0;
    waits += line.find("style=dashed") != std::string::npos ? 1 : 0;
  }
  EXPECT_EQ(nodes, num_ops);
  EXPECT_EQ(waits, num_waits);
}

TEST(ScheduleDot, HasANodeAnOpAndAnEdgeAWait) {
  Schedule schedule = small();
  std::size_t waits = 0;
  for (const auto& op : schedule.ops) {
    waits += op.waits.size();
  }
  check_dot(schedule_to_dot(schedule), schedule.ops.size(), waits);
  schedule.name = "a \"quoted\" \\ name\n";
  check_dot(schedule_to_dot(schedule), schedule.ops.size(), waits);
}

}  // namespace
}  // namespace dovetail
