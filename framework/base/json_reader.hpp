// Reads typed values out of JSON that strict_json.hpp parsed; every error says where, what was
// found and what is allowed.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace dovetail {

/// Throws InputError "<place>: <message>".
[[noreturn]] void fail_json(const std::string& place, const std::string& message);

/// Throws InputError unless `value` is an object with all of `keys`, and besides at most those of
/// `optional`.
void check_json_keys(const nlohmann::json& value,
                     const std::string& place,
                     std::initializer_list<std::string_view> keys,
                     std::initializer_list<std::string_view> optional = {});

/// The value where it is a whole number from `min` to `max`, written without point and exponent.
std::optional<std::int64_t> find_json_int(const nlohmann::json& value,
                                          std::int64_t min,
                                          std::int64_t max);

/// Throws InputError unless find_json_int finds it.
std::int64_t read_json_int(const nlohmann::json& value,
                           const std::string& place,
                           std::int64_t min,
                           std::int64_t max);

/// A finite number of at least `min`.
double read_json_number(const nlohmann::json& value, const std::string& place, double min);

bool read_json_bool(const nlohmann::json& value, const std::string& place);

std::string read_json_string(const nlohmann::json& value, const std::string& place);

const nlohmann::json& read_json_object(const nlohmann::json& value, const std::string& place);

const nlohmann::json& read_json_array(const nlohmann::json& value, const std::string& place);

}  // namespace dovetail
