#include "framework/base/json_reader.hpp"

#include <algorithm>
#include <vector>

#include "framework/base/error.hpp"
#include "framework/base/registry.hpp"
#include "framework/base/strict_json.hpp"
#include "framework/base/text.hpp"

namespace dovetail {
namespace {

using nlohmann::json;

bool contains(std::initializer_list<std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

void fail_json(const std::string& place, const std::string& message) {
  throw InputError(place + ": " + message);
}

void check_json_keys(const json& value,
                     const std::string& place,
                     std::initializer_list<std::string_view> keys,
                     std::initializer_list<std::string_view> optional) {
  read_json_object(value, place);
  std::vector<std::string_view> allowed(keys);
  allowed.insert(allowed.end(), optional.begin(), optional.end());
  for (const auto& item : value.items()) {
    if (!contains(keys, item.key()) && !contains(optional, item.key())) {
      fail_json(place,
                "unknown key '" + printable(item.key()) + "'; allowed: " + join_names(allowed));
    }
  }
  for (const auto key : keys) {
    if (!value.contains(std::string(key))) {
      fail_json(place, "key '" + std::string(key) + "' is missing");
    }
  }
}

std::optional<std::int64_t> find_json_int(const json& value, std::int64_t min, std::int64_t max) {
  const bool beyond_int64 =
      value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t{INT64_MAX};
  if (!value.is_number_integer() || beyond_int64 || value.get<std::int64_t>() < min ||
      value.get<std::int64_t>() > max) {
    return std::nullopt;
  }
  return value.get<std::int64_t>();
}

std::int64_t read_json_int(const json& value,
                           const std::string& place,
                           std::int64_t min,
                           std::int64_t max) {
  const auto number = find_json_int(value, min, max);
  if (!number) {
    fail_json(place,
              "an integer from " + std::to_string(min) + " to " + std::to_string(max) +
                  " is needed, not " + printable_json(value));
  }
  return *number;
}

double read_json_number(const json& value, const std::string& place, double min) {
  if (!value.is_number() || value.get<double>() < min) {
    fail_json(
        place,
        "a number of at least " + json(min).dump() + " is needed, not " + printable_json(value));
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

const json& read_json_object(const json& value, const std::string& place) {
  if (!value.is_object()) {
    fail_json(place, "an object is needed, not " + std::string(value.type_name()));
  }
  return value;
}

const json& read_json_array(const json& value, const std::string& place) {
  if (!value.is_array()) {
    fail_json(place, "an array is needed, not " + std::string(value.type_name()));
  }
  return value;
}

}  // namespace dovetail
