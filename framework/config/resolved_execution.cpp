#include "framework/config/resolved_execution.hpp"

#include <limits>

#include <nlohmann/json.hpp>

#include "framework/base/json_reader.hpp"
#include "framework/base/registry.hpp"
#include "framework/base/strict_json.hpp"

namespace dovetail {
namespace {

using nlohmann::json;

constexpr std::int64_t kLargest = std::numeric_limits<std::int32_t>::max();

template <class Enum>
Enum read_name(const json& value, const std::string& place) {
  const auto name = read_json_string(value, place);
  const auto parsed = parse<Enum>(name);
  if (!parsed) {
    fail_json(place, "'" + name + "' is none of " + join_names(names<Enum>()));
  }
  return *parsed;
}

}  // namespace

std::string to_json_text(const ResolvedExecution& execution) {
  const nlohmann::ordered_json root = {
      {"device", to_string(execution.device)},
      {"device_name", execution.device_name},
      {"dtype", to_string(execution.dtype)},
      {"exchange", execution.exchange},
      {"exchange_reason", execution.exchange_reason},
      {"graph", to_string(execution.graph)},
      {"comm_sms", comm_sms_to_json(execution.comm_sms)},
      {"plain_comm_sms", comm_sms_to_json(execution.plain_comm_sms)},
      {"sm_partition", to_string(execution.sm_partition)},
      {"graph_sizes", execution.graph_sizes},
      {"num_step_shapes", execution.num_step_shapes}};
  return root.dump(-1, ' ', false, json::error_handler_t::replace);
}

ResolvedExecution parse_resolved_execution(const std::string& text, const std::string& place) {
  const json root = parse_strict_json(text, {.file = place, .max_depth = 2});
  check_json_keys(root,
                  place,
                  {"device",
                   "device_name",
                   "dtype",
                   "exchange",
                   "exchange_reason",
                   "graph",
                   "comm_sms",
                   "plain_comm_sms",
                   "graph_sizes",
                   "num_step_shapes"},
                  {"sm_partition"});
  const auto at = [&](const char* key) { return place + ": " + key; };
  ResolvedExecution execution;
  execution.device = read_name<DeviceKind>(root["device"], at("device"));
  execution.device_name = read_json_string(root["device_name"], at("device_name"));
  execution.dtype = read_name<DType>(root["dtype"], at("dtype"));
  execution.exchange = read_json_string(root["exchange"], at("exchange"));
  execution.exchange_reason = read_json_string(root["exchange_reason"], at("exchange_reason"));
  execution.graph = read_name<GraphMode>(root["graph"], at("graph"));
  execution.comm_sms = read_comm_sms(root["comm_sms"], at("comm_sms"));
  execution.plain_comm_sms = read_comm_sms(root["plain_comm_sms"], at("plain_comm_sms"));
  if (root.contains("sm_partition")) {  // files of before the key have none: all was soft
    execution.sm_partition = read_name<SmPartitionKind>(root["sm_partition"], at("sm_partition"));
  }
  for (const auto& size : read_json_array(root["graph_sizes"], at("graph_sizes"))) {
    execution.graph_sizes.push_back(read_json_int(size, at("graph_sizes"), 1, kLargest));
  }
  execution.num_step_shapes =
      static_cast<int>(read_json_int(root["num_step_shapes"], at("num_step_shapes"), 0, kLargest));
  return execution;
}

}  // namespace dovetail
