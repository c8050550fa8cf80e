#include "framework/plan/schedule_json.hpp"

#include <limits>
#include <vector>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/json_reader.hpp"
#include "framework/base/registry.hpp"
#include "framework/base/strict_json.hpp"
#include "framework/base/text.hpp"

namespace dovetail {
namespace {

using nlohmann::json;

int read_int(const json& value, const std::string& place, int min) {
  return static_cast<int>(read_json_int(value, place, min, std::numeric_limits<int>::max()));
}

Phase read_phase(const json& value, const std::string& place) {
  const std::string name = read_json_string(value, place);
  if (const auto phase = parse<Phase>(name)) {
    return *phase;
  }
  std::vector<std::string_view> allowed;
  allowed.reserve(kNumPhases);
  for (int i = 0; i < kNumPhases; ++i) {
    allowed.push_back(to_string(static_cast<Phase>(i)));
  }
  fail_json(place, "unknown phase '" + printable(name) + "'; allowed: " + join_names(allowed));
}

Lane read_lane(const json& value, const std::string& place) {
  const std::string name = read_json_string(value, place);
  if (const auto lane = parse<Lane>(name)) {
    return *lane;
  }
  fail_json(place, "unknown lane '" + printable(name) + "'; allowed: compute, comm");
}

Op read_op(const json& value, const std::string& place, int index) {
  check_json_keys(value, place, {"op", "phase", "layer", "ubatch", "lane", "waits"}, {"group"});
  if (read_int(value["op"], place + ".op", 0) != index) {
    fail_json(place + ".op",
              "ops are numbered from 0 in order; " + std::to_string(index) + " is due");
  }
  Op op;
  op.phase = read_phase(value["phase"], place + ".phase");
  op.layer = read_int(value["layer"], place + ".layer", kNoLayer);
  op.ubatch = read_int(value["ubatch"], place + ".ubatch", 0);
  op.lane = read_lane(value["lane"], place + ".lane");
  if (value.contains("group")) {
    op.group = read_int(value["group"], place + ".group", 0);
  }
  for (const auto& wait : read_json_array(value["waits"], place + ".waits")) {
    op.waits.push_back(read_int(wait, place + ".waits", 0));
  }
  return op;
}

}  // namespace

std::string schedule_to_json(const Schedule& schedule) {
  std::string text =
      "{\"schedule\": " + json(schedule.name).dump(-1, ' ', false, json::error_handler_t::replace) +
      ",\n \"num_ubatches\": " + std::to_string(schedule.num_ubatches) +
      (schedule.num_groups == 1 ? ""
                                : ",\n \"num_groups\": " + std::to_string(schedule.num_groups)) +
      ",\n \"layers\": [";
  for (std::size_t i = 0; i < schedule.layers.size(); ++i) {
    const LayerShape& layer = schedule.layers[i];
    text += std::string(i == 0 ? "" : ",") +
            "\n  {\"is_moe\": " + (layer.is_moe ? "true" : "false") +
            ", \"has_shared_experts\": " + (layer.has_shared_experts ? "true" : "false") + "}";
  }
  text += "],\n \"ops\": [";
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    const Op& op = schedule.ops[i];
    text += std::string(i == 0 ? "" : ",") + "\n  {\"op\": " + std::to_string(i) +
            ", \"phase\": \"" + std::string(to_string(op.phase)) +
            "\", \"layer\": " + std::to_string(op.layer) +
            ", \"ubatch\": " + std::to_string(op.ubatch) +
            (op.group == kNoGroup ? "" : ", \"group\": " + std::to_string(op.group)) +
            ", \"lane\": \"" + std::string(to_string(op.lane)) +
            "\", \"waits\": " + json(op.waits).dump() + "}";
  }
  return text + "]}\n";
}

Schedule schedule_from_json(std::string_view text, const std::string& source) {
  const json root = parse_strict_json(text, {.file = source});
  check_json_keys(root, source, {"schedule", "num_ubatches", "layers", "ops"}, {"num_groups"});
  Schedule schedule;
  schedule.name = read_json_string(root["schedule"], source + ": schedule");
  schedule.num_ubatches = read_int(root["num_ubatches"], source + ": num_ubatches", 1);
  if (root.contains("num_groups")) {
    schedule.num_groups = read_int(root["num_groups"], source + ": num_groups", 1);
  }
  for (const auto& layer : read_json_array(root["layers"], source + ": layers")) {
    const std::string place = source + ": layers[" + std::to_string(schedule.layers.size()) + "]";
    check_json_keys(layer, place, {"is_moe", "has_shared_experts"});
    schedule.layers.push_back(
        {read_json_bool(layer["is_moe"], place + ".is_moe"),
         read_json_bool(layer["has_shared_experts"], place + ".has_shared_experts")});
  }
  for (const auto& op : read_json_array(root["ops"], source + ": ops")) {
    const int index = static_cast<int>(schedule.ops.size());
    schedule.ops.push_back(read_op(op, source + ": ops[" + std::to_string(index) + "]", index));
  }
  return schedule;
}

}  // namespace dovetail
