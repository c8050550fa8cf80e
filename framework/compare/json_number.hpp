// Numbers in JSON reports: JSON has no NaN and no infinity.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>

#include <nlohmann/json.hpp>

namespace dovetail {

/// The number, or "nan", "inf", "-inf" as text.
inline nlohmann::json json_number(double value) {
  if (std::isfinite(value)) {
    return value;
  }
  return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

/// The number, or null.
inline nlohmann::json json_number(const std::optional<double>& value) {
  return value.has_value() ? json_number(*value) : nlohmann::json(nullptr);
}

/// The number, or null where it is -1: not known.
inline nlohmann::json known_number(std::int64_t value) {
  return value < 0 ? nlohmann::json(nullptr) : nlohmann::json(value);
}

}  // namespace dovetail
