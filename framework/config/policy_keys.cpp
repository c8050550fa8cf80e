// The values of a policy that are no plain ones: stages and split.
#include "framework/config/map_reader.hpp"
#include "framework/config/policy_config.hpp"
#include "framework/config/schedule_rules.hpp"
#include "framework/config/write_value.hpp"

namespace dovetail {
namespace {

/// A phase's name, or {name: lane}.
StagePhase read_stage_phase(const Located& value) {
  const std::string expected = "the name of a phase or {phase: lane}";
  if (value.node->kind != YamlNode::Kind::map) {
    return {value.as_text(expected), ""};
  }
  if (value.node->entries.size() != 1) {
    value.fail(expected);
  }
  const YamlEntry& entry = value.node->entries.front();
  if (!is_one_line(entry.key)) {
    value.fail(expected);
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

std::string write_stage_list(const StageList& list) {
  std::string stages;
  for (const auto& stage : list) {
    std::string phases;
    for (const StagePhase& item : stage) {
      phases +=
          (phases.empty() ? "" : ", ") +
          (item.lane.empty() ? write_value(item.phase)
                             : "{" + write_value(item.phase) + ": " + write_value(item.lane) + "}");
    }
    stages += (stages.empty() ? "[" : ", [") + phases + "]";
  }
  return "[" + stages + "]";
}

}  // namespace

void PolicyConfig::read_stages(const MapReader& map, PolicyConfig& policy) {
  const Located value = map.at("stages");
  StagesConfig& stages = policy.stages.emplace();
  if (value.node->kind != YamlNode::Kind::map) {
    stages.preset = value.as_text("the name of a preset or {moe: [...], dense: [...], delta: n}");
    return;
  }
  const MapReader lists(value, {"moe", "dense", "delta"});
  stages.moe = read_stage_list(lists.at("moe"));
  stages.dense = {{{"attention", ""}, {"mlp", ""}}};
  if (lists.has("dense")) {
    stages.dense = read_stage_list(lists.at("dense"));
  }
  if (lists.has("delta")) {
    stages.delta = static_cast<int>(lists.at("delta").as_int(0, kMaxStageDelta));
  }
}

std::string PolicyConfig::write_stages(const PolicyConfig& policy) {
  const StagesConfig stages = policy.stages.value_or(StagesConfig());
  if (!stages.preset.empty()) {
    return write_value(stages.preset);
  }
  return "{moe: " + write_stage_list(stages.moe) + ", dense: " + write_stage_list(stages.dense) +
         ", delta: " + write_value(stages.delta) + "}";
}

void PolicyConfig::read_split(const MapReader& map, PolicyConfig& policy) {
  const Located value = map.at("split");
  if (value.node->kind == YamlNode::Kind::map) {
    const MapReader sizes(value, {"sizes"});
    policy.split = {"sizes", sizes.at("sizes").as_counts(0, Limits::kTokens)};
    return;
  }
  const std::string expected = "the name of a split or {sizes: [tokens of each ubatch]}";
  policy.split = {value.as_text(expected), {}};
  if (policy.split.kind == "sizes") {
    value.fail(expected);
  }
}

std::string PolicyConfig::write_split(const PolicyConfig& policy) {
  return policy.split.kind == "sizes" ? "{sizes: " + write_value(policy.split.sizes) + "}"
                                      : write_value(policy.split.kind);
}

}  // namespace dovetail
