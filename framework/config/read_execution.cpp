#include <optional>

#include "framework/config/read_parts.hpp"

namespace dovetail {
namespace {

constexpr std::int64_t kMaxSms = 1024;
constexpr std::int64_t kMaxTimeout = 86'400;
constexpr std::int64_t kMaxPageSize = 65'536;
constexpr double kMinCapacity = 1e-3;

std::optional<LinkConfig> read_link(const Located& value) {
  if (value.is_word("none")) {
    return std::nullopt;
  }
  const MapReader map(value, {"latency_us", "gbytes_per_s"});
  LinkConfig link;
  map.read_number("latency_us", link.latency_us, 0.0, 1e6);
  link.gbytes_per_s = map.at("gbytes_per_s").as_number(1e-3, 1e4);
  return link;
}

}  // namespace

const std::vector<std::string_view>& execution_keys() {
  static const std::vector<std::string_view> keys = {"device",
                                                     "dtype",
                                                     "numerics",
                                                     "warmup",
                                                     "iterations",
                                                     "graph",
                                                     "hand_off",
                                                     "exchange",
                                                     "comm_sms",
                                                     "padded_capacity",
                                                     "timeout_s",
                                                     "page_size",
                                                     "cache_tokens",
                                                     "link"};
  return keys;
}

void read_execution(const MapReader& map, ExecutionConfig& execution) {
  map.read_choice("device", execution.device);
  if (map.has("dtype")) {
    execution.dtype = *parse<DType>(map.at("dtype").as_name({"float32", "float16", "bfloat16"}));
  }
  map.read_choice("numerics", execution.numerics);
  map.read_int("warmup", execution.warmup, 0, kMaxCount);
  map.read_int("iterations", execution.iterations, 1, kMaxCount);
  map.read_choice("graph", execution.graph);
  map.read_choice("hand_off", execution.hand_off);
  map.read_text("exchange", execution.exchange);
  map.read_int("comm_sms", execution.comm_sms, 1, kMaxSms);
  map.read_number("padded_capacity", execution.padded_capacity, kMinCapacity, 1.0);
  map.read_int("timeout_s", execution.timeout_s, 1, kMaxTimeout);
  map.read_int("page_size", execution.page_size, 1, kMaxPageSize);
  map.read_int("cache_tokens", execution.cache_tokens, 0, kMaxTokens);
  if (map.has("link")) {
    execution.link = read_link(map.at("link"));
  }
}

}  // namespace dovetail
