#include "framework/plan/schedule_json.hpp"

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <set>
#include <vector>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/registry.hpp"

namespace dovetail {
namespace {

using nlohmann::json;

[[noreturn]] void fail(const std::string& place, const std::string& message) {
  throw InputError(place + ": " + message);
}

/// Parses and refuses objects that hold a key twice, of which the JSON library would keep one.
json parse_unique(std::string_view text, const std::string& source) {
  std::vector<std::set<std::string>> open_objects;
  const auto watch = [&](int /*depth*/, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) {
      open_objects.emplace_back();
    } else if (event == json::parse_event_t::object_end) {
      open_objects.pop_back();
    } else if (event == json::parse_event_t::key) {
      const auto key = parsed.get<std::string>();
      if (!open_objects.back().insert(key).second) {
        fail(source, "key '" + key + "' is there twice in one object");
      }
    }
    return true;
  };
  try {
    return json::parse(text, watch);
  } catch (const json::exception& error) {
    fail(source, std::string("not JSON: ") + error.what());
  }
}

/// An object with exactly these keys.
void check_keys(const json& value,
                const std::string& place,
                std::initializer_list<std::string_view> keys) {
  if (!value.is_object()) {
    fail(place, "an object is needed, not " + std::string(value.type_name()));
  }
  for (const auto& item : value.items()) {
    bool known = false;
    for (const auto key : keys) {
      known = known || item.key() == key;
    }
    if (!known) {
      fail(place, "unknown key '" + item.key() + "'; allowed: " + join_names(keys));
    }
  }
  for (const auto key : keys) {
    if (!value.contains(std::string(key))) {
      fail(place, "key '" + std::string(key) + "' is missing");
    }
  }
}

int read_int(const json& value, const std::string& place, int min) {
  constexpr int largest = std::numeric_limits<int>::max();
  const bool fits = value.is_number_unsigned()
                        ? value.get<std::uint64_t>() <= static_cast<std::uint64_t>(largest)
                        : value.is_number_integer() && value.get<std::int64_t>() >= min;
  if (!fits || value.get<std::int64_t>() < min) {
    fail(place,
         "an integer from " + std::to_string(min) + " to " + std::to_string(largest) +
             " is needed, not " + value.dump(-1, ' ', true, json::error_handler_t::replace));
  }
  return value.get<int>();
}

bool read_bool(const json& value, const std::string& place) {
  if (!value.is_boolean()) {
    fail(place, "true or false is needed, not " + std::string(value.type_name()));
  }
  return value.get<bool>();
}

std::string read_string(const json& value, const std::string& place) {
  if (!value.is_string()) {
    fail(place, "a string is needed, not " + std::string(value.type_name()));
  }
  return value.get<std::string>();
}

const json& read_array(const json& value, const std::string& place) {
  if (!value.is_array()) {
    fail(place, "an array is needed, not " + std::string(value.type_name()));
  }
  return value;
}

Phase read_phase(const json& value, const std::string& place) {
  const std::string name = read_string(value, place);
  if (const auto phase = parse<Phase>(name)) {
    return *phase;
  }
  std::vector<std::string_view> allowed;
  allowed.reserve(kNumPhases);
  for (int i = 0; i < kNumPhases; ++i) {
    allowed.push_back(to_string(static_cast<Phase>(i)));
  }
  fail(place, "unknown phase '" + name + "'; allowed: " + join_names(allowed));
}

Lane read_lane(const json& value, const std::string& place) {
  const std::string name = read_string(value, place);
  if (const auto lane = parse<Lane>(name)) {
    return *lane;
  }
  fail(place, "unknown lane '" + name + "'; allowed: compute, comm");
}

Op read_op(const json& value, const std::string& place, int index) {
  check_keys(value, place, {"op", "phase", "layer", "ubatch", "lane", "waits"});
  if (read_int(value["op"], place + ".op", 0) != index) {
    fail(place + ".op", "ops are numbered from 0 in order; " + std::to_string(index) + " is due");
  }
  Op op;
  op.phase = read_phase(value["phase"], place + ".phase");
  op.layer = read_int(value["layer"], place + ".layer", kNoLayer);
  op.ubatch = read_int(value["ubatch"], place + ".ubatch", 0);
  op.lane = read_lane(value["lane"], place + ".lane");
  for (const auto& wait : read_array(value["waits"], place + ".waits")) {
    op.waits.push_back(read_int(wait, place + ".waits", 0));
  }
  return op;
}

}  // namespace

std::string schedule_to_json(const Schedule& schedule) {
  std::string text =
      "{\"schedule\": " + json(schedule.name).dump(-1, ' ', false, json::error_handler_t::replace) +
      ",\n \"num_ubatches\": " + std::to_string(schedule.num_ubatches) + ",\n \"layers\": [";
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
            ", \"ubatch\": " + std::to_string(op.ubatch) + ", \"lane\": \"" +
            std::string(to_string(op.lane)) + "\", \"waits\": " + json(op.waits).dump() + "}";
  }
  return text + "]}\n";
}

Schedule schedule_from_json(std::string_view text, const std::string& source) {
  const json root = parse_unique(text, source);
  check_keys(root, source, {"schedule", "num_ubatches", "layers", "ops"});
  Schedule schedule;
  schedule.name = read_string(root["schedule"], source + ": schedule");
  schedule.num_ubatches = read_int(root["num_ubatches"], source + ": num_ubatches", 1);
  for (const auto& layer : read_array(root["layers"], source + ": layers")) {
    const std::string place = source + ": layers[" + std::to_string(schedule.layers.size()) + "]";
    check_keys(layer, place, {"is_moe", "has_shared_experts"});
    schedule.layers.push_back(
        {read_bool(layer["is_moe"], place + ".is_moe"),
         read_bool(layer["has_shared_experts"], place + ".has_shared_experts")});
  }
  for (const auto& op : read_array(root["ops"], source + ": ops")) {
    const int index = static_cast<int>(schedule.ops.size());
    schedule.ops.push_back(read_op(op, source + ": ops[" + std::to_string(index) + "]", index));
  }
  return schedule;
}

}  // namespace dovetail
