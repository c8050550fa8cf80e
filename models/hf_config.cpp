#include "models/hf_config.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "framework/base/error.hpp"
#include "framework/base/json_reader.hpp"
#include "framework/base/strict_json.hpp"
#include "framework/base/text_file.hpp"

namespace dovetail {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 64;

std::string quoted(const std::string& key) {
  return "key '" + key + "'";
}

}  // namespace

HfConfig HfConfig::read(const std::string& path) {
  const auto text = read_text_file(path, kModelConfigText);
  const Json values =
      parse_strict_json(text, {.file = path, .max_depth = kMaxDepth, .takes_non_finite = true});
  return {path, "", read_json_object(values, path)};
}

HfConfig::HfConfig(std::string path, std::string prefix, Json values)
    : path_(std::move(path)), prefix_(std::move(prefix)), values_(std::move(values)) {}

void HfConfig::complete(std::span<const AbsentKey> keys) {
  for (const AbsentKey& each : keys) {
    const std::string key(each.key);
    const bool is_there = values_.contains(key);
    if (is_there && !values_[key].is_null()) {
      continue;
    }
    const std::string_view meaning = is_there ? each.null : each.missing;
    if (!meaning.empty()) {
      values_[key] = Json::parse(meaning);
    } else if (is_there) {
      fail(key, "is null, which says nothing here; allowed: a value, or to leave the key out");
    }
  }
}

void HfConfig::fail(const std::string& key, const std::string& message) const {
  throw InputError(path_, 0, 0, quoted(prefix_ + key) + " " + message);
}

bool HfConfig::has(const std::string& key) const {
  asked_.insert(key);
  const auto found = values_.find(key);
  return found != values_.end() && !found->is_null();
}

const Json& HfConfig::value(const std::string& key) const {
  if (!has(key)) {
    fail(key, "is missing");
  }
  return values_.at(key);
}

std::int64_t HfConfig::checked_integer(const std::string& key,
                                       const Json& value,
                                       IntRange range) const {
  const auto number = find_json_int(value, range.min, range.max);
  if (!number) {
    fail(key,
         "is " + printable_json(value) + "; allowed: a whole number from " +
             std::to_string(range.min) + " to " + std::to_string(range.max));
  }
  return *number;
}

std::int64_t HfConfig::integer(const std::string& key, IntRange range) const {
  return checked_integer(key, value(key), range);
}

bool HfConfig::boolean(const std::string& key) const {
  const Json& found = value(key);
  if (!found.is_boolean()) {
    fail(key, "is " + printable_json(found) + "; allowed: true, false");
  }
  return found.get<bool>();
}

double HfConfig::positive_number(const std::string& key) const {
  const Json& found = value(key);
  if (!found.is_number() || !std::isfinite(found.get<double>()) || found.get<double>() <= 0) {
    fail(key, "is " + printable_json(found) + "; allowed: a number > 0");
  }
  return found.get<double>();
}

double HfConfig::number(const std::string& key, double min) const {
  const Json& found = value(key);
  if (!found.is_number() || !std::isfinite(found.get<double>()) || found.get<double>() < min) {
    fail(key,
         "is " + printable_json(found) + "; allowed: a number of at least " + Json(min).dump());
  }
  return found.get<double>();
}

std::string HfConfig::string(const std::string& key) const {
  const Json& found = value(key);
  if (!found.is_string()) {
    fail(key, "is " + printable_json(found) + "; allowed: a string");
  }
  return found.get<std::string>();
}

std::int64_t HfConfig::integer_or(const std::string& key,
                                  std::int64_t missing,
                                  IntRange range) const {
  return has(key) ? integer(key, range) : missing;
}

bool HfConfig::boolean_or(const std::string& key, bool missing) const {
  return has(key) ? boolean(key) : missing;
}

std::optional<double> HfConfig::optional_positive_number(const std::string& key) const {
  return has(key) ? std::optional(positive_number(key)) : std::nullopt;
}

double HfConfig::number_or(const std::string& key, double missing, double min) const {
  return has(key) ? number(key, min) : missing;
}

std::string HfConfig::string_or(const std::string& key, const std::string& missing) const {
  return has(key) ? string(key) : missing;
}

std::vector<std::int64_t> HfConfig::integers_or_empty(const std::string& key,
                                                      IntRange range) const {
  std::vector<std::int64_t> numbers;
  if (!has(key)) {
    return numbers;
  }
  if (!value(key).is_array()) {
    fail(key, "is " + printable_json(value(key)) + "; allowed: a list of whole numbers");
  }
  for (const Json& element : value(key)) {
    numbers.push_back(checked_integer(key, element, range));
  }
  return numbers;
}

std::vector<std::string> HfConfig::strings_or_empty(const std::string& key) const {
  std::vector<std::string> texts;
  if (!has(key)) {
    return texts;
  }
  const Json& list = value(key);
  const bool all_strings =
      list.is_array() && std::all_of(list.begin(), list.end(), [](const Json& element) {
        return element.is_string();
      });
  if (!all_strings) {
    fail(key, "is " + printable_json(list) + "; allowed: a list of strings");
  }
  return list.get<std::vector<std::string>>();
}

HfConfig HfConfig::object(const std::string& key) const {
  const Json& found = value(key);
  if (!found.is_object()) {
    fail(key, "is " + printable_json(found) + "; allowed: an object");
  }
  return {path_, prefix_ + key + ".", found};
}

std::vector<std::string> HfConfig::keys_not_asked() const {
  std::vector<std::string> keys;
  for (const auto& item : values_.items()) {
    if (!item.value().is_null() && asked_.count(item.key()) == 0) {
      keys.push_back(item.key());
    }
  }
  return keys;
}

}  // namespace dovetail
