#include <string_view>

#include "framework/config/read_parts.hpp"
#include "framework/config/schedule_rules.hpp"
#include "framework/config/yaml_text.hpp"

namespace dovetail {
namespace {

SplitConfig read_split(const Located& value) {
  if (value.node->kind == YamlNode::Kind::map) {
    const MapReader map(value, {"sizes"});
    return {"sizes", read_counts(map.at("sizes"), 0)};
  }
  const std::string expected = "the name of a split or {sizes: [tokens of each ubatch]}";
  SplitConfig split{value.as_text(expected), {}};
  if (split.kind == "sizes") {
    value.fail(expected);
  }
  return split;
}

void read_schedule(const Located& value, std::string& schedule) {
  const std::string expected =
      "the name of an overlap policy or the path of a schedule file (*.json); stage lists stand "
      "under 'stages' of the policy staged";
  schedule = value.as_text(expected);
}

/// A phase's name, or {name: lane}.
StagePhase read_stage_phase(const Located& value) {
  if (value.node->kind != YamlNode::Kind::map) {
    return {value.as_text("the name of a phase or {phase: lane}"), ""};
  }
  if (value.node->entries.size() != 1) {
    value.fail("the name of a phase or {phase: lane}");
  }
  const YamlEntry& entry = value.node->entries.front();
  if (!is_one_line(entry.key)) {
    value.fail("the name of a phase or {phase: lane}");
  }
  return {entry.key, Located{&entry.value, value.path + "." + entry.key}.as_text("a lane")};
}

StageList read_stage_list(const Located& value) {
  StageList list;
  for (const Located& stage : value.items("a list of stages, each a list of phases")) {
    list.emplace_back();
    for (const Located& phase : stage.items("a stage: a list of phases")) {
      list.back().push_back(read_stage_phase(phase));
    }
  }
  return list;
}

StagesConfig read_stages(const Located& value) {
  StagesConfig stages;
  if (value.node->kind != YamlNode::Kind::map) {
    stages.preset = value.as_text("the name of a preset or {moe: [...], dense: [...], delta: n}");
    return stages;
  }
  const MapReader map(value, {"moe", "dense", "delta"});
  stages.moe = read_stage_list(map.at("moe"));
  stages.dense = {{{"attention", ""}, {"mlp", ""}}};
  if (map.has("dense")) {
    stages.dense = read_stage_list(map.at("dense"));
  }
  map.read_int("delta", stages.delta, 0, kMaxStageDelta);
  return stages;
}

}  // namespace

PolicyConfig read_policy(const Located& value, const ExecutionConfig& execution) {
  std::vector<std::string_view> keys = {
      "name", "schedule", "ubatches", "stages", "candidate", "table", "split", "thresholds"};
  keys.insert(keys.end(), execution_keys().begin(), execution_keys().end());
  const MapReader map(value, keys);
  PolicyConfig policy;
  policy.execution = execution;
  policy.name = map.at("name").as_text();
  policy.schedule = policy.name;
  if (map.has("schedule")) {
    read_schedule(map.at("schedule"), policy.schedule);
  }
  map.read_int("ubatches", policy.ubatches, 0, PolicyConfig::kMaxUbatches);
  if (map.has("stages")) {
    policy.stages = read_stages(map.at("stages"));
  }
  if (map.has("candidate")) {
    policy.candidate =
        map.at("candidate").as_text("the name of an overlap policy or the path of a schedule file");
  }
  if (map.has("table")) {
    policy.table = map.at("table").as_text("the path of a table of step times");
  }
  if (map.has("split")) {
    policy.split = read_split(map.at("split"));
  }
  if (map.has("thresholds")) {
    const MapReader thresholds(map.at("thresholds"), {"prefill", "decode"});
    thresholds.read_int("prefill", policy.thresholds.prefill, 0, kMaxTokens);
    thresholds.read_int("decode", policy.thresholds.decode, 0, kMaxTokens);
  }
  read_execution(map, policy.execution);
  return policy;
}

}  // namespace dovetail
