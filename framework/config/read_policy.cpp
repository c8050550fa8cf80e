#include <string_view>

#include "framework/config/read_parts.hpp"

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
  if (value.node->kind == YamlNode::Kind::map || value.node->kind == YamlNode::Kind::sequence) {
    fail_at(value.node->mark,
            value.path +
                ": a schedule from a file or from a list of stages is not built yet; "
                "allowed: the name of an overlap policy");
  }
  schedule = value.as_text("the name of an overlap policy");
}

}  // namespace

PolicyConfig read_policy(const Located& value, const ExecutionConfig& execution) {
  std::vector<std::string_view> keys = {"name", "schedule", "ubatches", "split", "thresholds"};
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
