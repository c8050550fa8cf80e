#include "framework/base/json_reader.hpp"

#include <algorithm>
#include <set>
#include <vector>

#include "framework/base/error.hpp"
#include "framework/base/registry.hpp"

namespace dovetail {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 16;

std::string shown(const json& value) {
  return value.dump(-1, ' ', true, json::error_handler_t::replace);
}

bool contains(std::initializer_list<std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

void fail_json(const std::string& place, const std::string& message) {
  throw InputError(place + ": " + message);
}

std::size_t find_too_deep_json(std::string_view text, int max_depth) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      i += c == '\\' ? 1 : 0;  // what is escaped ends no string
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > max_depth) {
        return i;
      }
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return std::string_view::npos;
}

json parse_unique_json(std::string_view text, const std::string& source) {
  if (const auto at = find_too_deep_json(text, kMaxDepth); at != std::string_view::npos) {
    const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<long>(at), '\n');
    fail_json(source,
              "line " + std::to_string(line) + ", byte " + std::to_string(at) +
                  ": values too deep within each other; allowed: at most " +
                  std::to_string(kMaxDepth) + " arrays and objects");
  }
  std::vector<std::set<std::string>> open_objects;
  const auto watch = [&](int /*depth*/, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) {
      open_objects.emplace_back();
    } else if (event == json::parse_event_t::object_end) {
      open_objects.pop_back();
    } else if (event == json::parse_event_t::key) {
      const auto key = parsed.get<std::string>();
      if (!open_objects.back().insert(key).second) {
        fail_json(source, "key '" + key + "' is there twice in one object");
      }
    }
    return true;
  };
  try {
    return json::parse(text, watch);
  } catch (const json::exception& error) {
    fail_json(source, std::string("not JSON: ") + error.what());
  }
}

void check_json_keys(const json& value,
                     const std::string& place,
                     std::initializer_list<std::string_view> keys,
                     std::initializer_list<std::string_view> optional) {
  if (!value.is_object()) {
    fail_json(place, "an object is needed, not " + std::string(value.type_name()));
  }
  std::vector<std::string_view> allowed(keys);
  allowed.insert(allowed.end(), optional.begin(), optional.end());
  for (const auto& item : value.items()) {
    if (!contains(keys, item.key()) && !contains(optional, item.key())) {
      fail_json(place, "unknown key '" + item.key() + "'; allowed: " + join_names(allowed));
    }
  }
  for (const auto key : keys) {
    if (!value.contains(std::string(key))) {
      fail_json(place, "key '" + std::string(key) + "' is missing");
    }
  }
}

std::int64_t read_json_int(const json& value,
                           const std::string& place,
                           std::int64_t min,
                           std::int64_t max) {
  const bool too_large =
      value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(max);
  if (!value.is_number_integer() || too_large || value.get<std::int64_t>() < min ||
      value.get<std::int64_t>() > max) {
    fail_json(place,
              "an integer from " + std::to_string(min) + " to " + std::to_string(max) +
                  " is needed, not " + shown(value));
  }
  return value.get<std::int64_t>();
}

double read_json_number(const json& value, const std::string& place, double min) {
  if (!value.is_number() || value.get<double>() < min) {
    fail_json(place,
              "a number of at least " + json(min).dump() + " is needed, not " + shown(value));
  }
  return value.get<double>();
}

bool read_json_bool(const json& value, const std::string& place) {
  if (!value.is_boolean()) {
    fail_json(place, "true or false is needed, not " + std::string(value.type_name()));
  }
  return value.get<bool>();
}

std::string read_json_string(const json& value, const std::string& place) {
  if (!value.is_string()) {
    fail_json(place, "a string is needed, not " + std::string(value.type_name()));
  }
  return value.get<std::string>();
}

const json& read_json_array(const json& value, const std::string& place) {
  if (!value.is_array()) {
    fail_json(place, "an array is needed, not " + std::string(value.type_name()));
  }
  return value;
}

}  // namespace dovetail
