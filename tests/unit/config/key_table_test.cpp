// What holds for every key of an experiment file, from its row alone: a new key is tested here
// without a change.
#include "framework/config/key_table.hpp"

#include <algorithm>
#include <cmath>
#include <set>
#include <sstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/config/dump.hpp"
#include "framework/config/key_documents.hpp"
#include "framework/config/load.hpp"
#include "framework/config/yaml_write.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/readme_table.hpp"
#include "tests/unit/config/config_samples.hpp"

namespace dovetail {
namespace {

/// States whatever other keys need to be there.
const std::string kFull = R"(experiment: full
model: {architecture: qwen3_moe, config: tiny.json}
workload: {requests: {count: 8, length: 128}}
execution: {link: {latency_us: 5, gbytes_per_s: 2}}
policies:
  - {name: sequential}
  - {name: dual, schedule: dual_batch}
verify: {baseline: sequential, mode: tolerance}
fault: {kind: hang, rank: 0}
)";

/// States what it must; the policy auto, because some keys are dumped of it alone.
const std::string kLeast = R"(experiment: least
model: {architecture: qwen3_moe, config: tiny.json}
workload: {requests: {count: 8, length: 128}}
policies:
  - {name: auto}
)";

Experiment full_with(const std::vector<std::string>& settings) {
  return parse_experiment(kFull, "full.yaml", settings).experiment;
}

/// The key's path in an experiment; of policies the first.
std::string path_of(const KeyInfo& info) {
  return info.key.find("[]") == std::string::npos ? info.key
                                                  : testing::replaced(info.key, "[]", "[0]");
}

/// The value at a path of a dump; null where it is not stated.
YamlNode* find_value(YamlNode& root, const std::string& path) {
  YamlNode* node = &root;
  std::istringstream steps(path);
  for (std::string step; node != nullptr && std::getline(steps, step, '.');) {
    const std::size_t bracket = step.find('[');
    node = node->find(step.substr(0, bracket));
    if (node != nullptr && bracket != std::string::npos) {
      node = &node->items.at(std::stoul(step.substr(bracket + 1)));
    }
  }
  return node;
}

std::string value_in(const std::string& dumped, const std::string& path) {
  YamlNode root = parse_yaml(dumped, "dump");
  const YamlNode* value = find_value(root, path);
  return value == nullptr ? "(not stated)" : write_yaml(*value);
}

/// Values next to a key's range, or of a wrong type.
std::vector<std::string> refused_values(const KeyInfo& info) {
  std::vector<std::string> values = {"[[]]"};
  const std::string& first = info.examples.front();
  const std::string& last = info.examples.back();
  if (info.values.starts_with("whole number")) {
    values.insert(values.end(), {"1.5", "one", "\"1\""});
    values.push_back(first == "0" ? "-1" : std::to_string(*parse_int(first) - 1));
    values.push_back(parse_int(last) ? std::to_string(*parse_int(last) + 1) : last + "0");
  } else if (info.values.starts_with("number")) {
    values.insert(values.end(), {"one", "nan", "\"1\""});
    values.push_back(write_number(std::nextafter(*parse_number(first), -HUGE_VAL)));
    values.push_back(write_number(std::nextafter(*parse_number(last), HUGE_VAL)));
  } else if (info.values == "`" + join_names(info.examples, "`, `") + "`") {
    values.insert(values.end(), {"no_such_name", "1"});
  } else if (info.examples == std::vector<std::string>{"some_text"}) {
    values.insert(values.end(), {"1", "true", "{a: b}"});
  }
  return values;
}

TEST(KeyTable, KeysAreUniqueAndTold) {
  std::set<std::string> seen;
  for (const KeyInfo& info : experiment_keys()) {
    EXPECT_TRUE(seen.insert(info.key).second) << info.key;
    EXPECT_FALSE(info.values.empty()) << info.key;
    EXPECT_FALSE(info.examples.empty()) << info.key;
    EXPECT_TRUE(info.help.ends_with('.')) << info.key;
    EXPECT_EQ((info.values + info.help).find_first_of("|\n"), std::string::npos) << info.key;
    EXPECT_EQ(static_cast<int>(info.is_required) + static_cast<int>(!info.default_value.empty()) +
                  static_cast<int>(!info.default_text.empty()),
              1)
        << info.key << ": one of required, a default value or words for it";
  }
}

/// --set reaches the key, the dump states the value as it is, and reads back.
TEST(KeyTable, LegalValuesAreDumpedAndReadBackEqual) {
  const std::string unchanged = dump(full_with({}));
  for (const KeyInfo& info : experiment_keys()) {
    std::set<std::string> dumps;
    for (const std::string& example : info.examples) {
      SCOPED_TRACE(path_of(info) + "=" + example);
      const Experiment experiment = full_with({path_of(info) + "=" + example});
      const std::string dumped = dump(experiment);
      const Experiment again = parse_experiment(dumped, "dump").experiment;
      EXPECT_EQ(value_in(dumped, path_of(info)), example);
      EXPECT_EQ(again, experiment) << dumped;
      EXPECT_EQ(dump(again), dumped);
      dumps.insert(dumped);
    }
    EXPECT_EQ(dumps.size(), info.examples.size()) << info.key;
    EXPECT_TRUE(dumps.size() > 1 || dumps.count(unchanged) == 0) << info.key;
  }
}

TEST(KeyTable, IllegalValuesAreRefusedAtTheirPlace) {
  for (const KeyInfo& info : experiment_keys()) {
    for (const std::string& value : refused_values(info)) {
      const std::string setting = path_of(info) + "=" + value;
      const std::string what = testing::input_error_of([&] { full_with({setting}); });
      EXPECT_TRUE(what.starts_with("--set " + setting + ": " + path_of(info))) << setting << "\n"
                                                                               << what;
    }
  }
}

TEST(KeyTable, IllegalValuesAreRefusedAtTheirLineAndColumn) {
  for (const KeyInfo& info : experiment_keys()) {
    const std::string& example = info.examples.back();
    const std::string dumped = dump(full_with({path_of(info) + "=" + example}));
    YamlNode root = parse_yaml(dumped, "dump");
    const YamlNode* value = find_value(root, path_of(info));
    ASSERT_NE(value, nullptr) << info.key;
    std::istringstream lines(dumped);
    std::string text;
    for (std::string line; std::getline(lines, line);) {
      if (std::count(text.begin(), text.end(), '\n') + 1 == value->mark.line) {
        line.resize(static_cast<std::size_t>(value->mark.column) - 1);
        // What follows in the line belongs to the value, or to a map in one line around it.
        line += "[[]]" + std::string(line.find('{') == std::string::npos ? "" : "}");
      }
      text += line + "\n";
    }
    const std::string what = testing::input_error_of([&] { parse_experiment(text, "bad.yaml"); });
    EXPECT_TRUE(what.starts_with("bad.yaml:" + std::to_string(value->mark.line) + ":"))
        << info.key << "\n"
        << what;
    EXPECT_NE(what.find(": " + path_of(info)), std::string::npos) << info.key << "\n" << what;
  }
}

TEST(KeyTable, RequiredKeysAreMissed) {
  for (const KeyInfo& info : experiment_keys()) {
    if (!info.is_required && !info.default_text.starts_with("required in")) {
      continue;
    }
    YamlNode root = parse_yaml(dump(full_with({})), "dump");
    const std::string path = path_of(info);
    const std::size_t point = path.rfind('.');
    const std::string name = path.substr(point + 1);
    YamlNode* map = point == std::string::npos ? &root : find_value(root, path.substr(0, point));
    ASSERT_NE(map, nullptr) << path;
    std::erase_if(map->entries, [&](const YamlEntry& entry) { return entry.key == name; });
    EXPECT_NE(
        testing::input_error_of([&] { read_tree(root); }).find("the key '" + name + "' is missing"),
        std::string::npos)
        << path;
  }
}

TEST(KeyTable, UnstatedKeysHaveTheDocumentedDefaults) {
  const std::string least = dump(parse_experiment(kLeast, "least.yaml").experiment);
  const std::string with_maps = dump(
      parse_experiment(
          kLeast, "least.yaml", {"execution.link={gbytes_per_s: 1}", "fault={kind: hang, rank: 0}"})
          .experiment);
  for (const KeyInfo& info : experiment_keys()) {
    if (!info.default_value.empty()) {
      const std::string path = path_of(info);
      const bool is_in_map = path.starts_with("fault.") || path.starts_with("execution.link.");
      EXPECT_EQ(value_in(is_in_map ? with_maps : least, path), info.default_value) << path;
    }
  }
}

TEST(KeyTable, APolicyOverridesExecutionKeys) {
  const Experiment base = full_with({});
  for (const auto& key : keys_of<ExecutionConfig>().keys()) {
    for (const std::string& example : key.infos.front().examples) {
      const std::string setting = "policies[1]." + key.name + "=" + example;
      const auto loaded = parse_experiment(kFull, "full.yaml", {setting});
      EXPECT_EQ(loaded.experiment.execution, base.execution) << setting;
      EXPECT_EQ(loaded.experiment.policies[0], base.policies[0]) << setting;
      EXPECT_EQ(key.write(loaded.experiment.policies[1].execution), example);
      const std::string what =
          testing::input_error_of([&] { validate(loaded, testing::host_capabilities(), 2); });
      EXPECT_EQ(what.find("of a policy's own is not built yet") != std::string::npos,
                key.is_same_in_all_policies && example != key.write(base.execution))
          << setting << "\n"
          << what;
    }
  }
}

/// Whatever an experiment states, a policy may state otherwise, and the dump says so.
TEST(KeyTable, DumpsOfOverriddenExecutionKeysReadBackEqual) {
  for (const auto& key : keys_of<ExecutionConfig>().keys()) {
    auto values = key.infos.front().examples;
    values.push_back(key.write(ExecutionConfig()));
    for (const std::string& common : values) {
      for (const std::string& own : values) {
        const Experiment experiment = full_with(
            {"execution." + key.name + "=" + common, "policies[1]." + key.name + "=" + own});
        EXPECT_EQ(parse_experiment(dump(experiment), "dump").experiment, experiment)
            << key.name << ": " << common << ", of a policy " << own;
      }
    }
  }
}

TEST(KeyTable, DocumentsSayWhatAPolicyMayState) {
  const auto known = keys_of<PolicyConfig>().names();
  for (const KeyInfo& info : experiment_keys()) {
    const std::string section = info.key.substr(0, info.key.find('.'));
    const std::string name = info.key.substr(info.key.find('.') + 1);
    const std::set<std::string> common = {"execution.device",
                                          "execution.dtype",
                                          "execution.rounds",
                                          "execution.round_seed",
                                          "execution.precision",
                                          "execution.control"};
    const bool is_common = common.count(info.key) > 0;
    EXPECT_EQ(can_be_in_policy(info),
              section == "policies[]" || (section == "execution" && !is_common))
        << info.key;
    if (can_be_in_policy(info)) {
      EXPECT_EQ(std::count(known.begin(), known.end(), name.substr(0, name.find('.'))), 1) << name;
    }
  }
}

TEST(KeyTable, StagesShareModelAndWorkload) {
  const std::set<std::string> own = {
      "model.layers", "workload.inputs", "workload.rank_scale", "workload.routing"};
  const Experiment before = full_with({});
  for (const KeyInfo& info : experiment_keys()) {
    const Experiment after = full_with({path_of(info) + "=" + info.examples.back()});
    const bool is_shared = info.key == "execution.dtype" || info.key.starts_with("model.") ||
                           info.key.starts_with("workload.");
    EXPECT_EQ(find_difference_of_stages(before, after),
              is_shared && own.count(info.key) == 0 ? info.key : "");
  }
}

/// The table of experiments/README.md is made from the rows.
TEST(KeyTable, TheReadmeHasTheTable) {
  testing::expect_readme_table(
      DOVETAIL_SOURCE_DIR "/experiments/README.md", "keys", write_keys_as_markdown());
}

TEST(KeyTable, DocumentsStateEveryKey) {
  const std::string text = write_keys_as_text();
  const auto json = nlohmann::json::parse(write_keys_as_json());
  ASSERT_EQ(json.size(), experiment_keys().size());
  for (const auto& entry : json) {
    for (const char* member : {"key", "values", "default", "help"}) {
      EXPECT_NE(text.find(entry.at(member).get<std::string>()), std::string::npos) << entry;
      EXPECT_NE(entry.at(member), "") << entry;
    }
    EXPECT_TRUE(entry.at("in_policy").is_boolean()) << entry;
  }
}

}  // namespace
}  // namespace dovetail
