// Reads typed values out of JSON; every error says where, what was found and what is allowed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace dovetail {

/// Throws InputError "<place>: <message>".
[[noreturn]] void fail_json(const std::string& place, const std::string& message);

/// Where the first array or object opens that has `max_depth` others around it; npos = nowhere. The
/// JSON library copies and prints values by recursion, so text from outside is bounded first.
std::size_t find_too_deep_json(std::string_view text, int max_depth);

/// Parses, and refuses values more than 16 deep within each other, and objects that hold a key
/// twice, of which the JSON library would keep one. Throws InputError that begins with `source`.
nlohmann::json parse_unique_json(std::string_view text, const std::string& source);

/// Throws InputError unless `value` is an object with all of `keys`, and besides at most those of
/// `optional`.
void check_json_keys(const nlohmann::json& value,
                     const std::string& place,
                     std::initializer_list<std::string_view> keys,
                     std::initializer_list<std::string_view> optional = {});

/// A whole number from `min` to `max`.
std::int64_t read_json_int(const nlohmann::json& value,
                           const std::string& place,
                           std::int64_t min,
                           std::int64_t max);

/// A finite number of at least `min`.
double read_json_number(const nlohmann::json& value, const std::string& place, double min);

bool read_json_bool(const nlohmann::json& value, const std::string& place);

std::string read_json_string(const nlohmann::json& value, const std::string& place);

const nlohmann::json& read_json_array(const nlohmann::json& value, const std::string& place);

}  // namespace dovetail
