// Values of an experiment as YAML in one line, as they read back.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "framework/base/enum_names.hpp"
#include "framework/config/yaml_text.hpp"

namespace dovetail {

/// A number, a truth value, text (in quotes where it needs them) or the name of an enumerator.
template <class T>
std::string write_value(const T& value) {
  if constexpr (std::is_enum_v<T>) {
    return std::string(to_string(value));
  } else if constexpr (std::is_same_v<T, bool>) {
    return value ? "true" : "false";
  } else if constexpr (std::is_integral_v<T>) {
    return std::to_string(value);
  } else if constexpr (std::is_floating_point_v<T>) {
    return write_number(value);
  } else {
    return write_text(value);
  }
}

/// "[1, 2]".
template <class T>
std::string write_value(const std::vector<T>& values) {
  std::string text;
  for (const T& value : values) {
    text += (text.empty() ? "" : ", ") + write_value(value);
  }
  return "[" + text + "]";
}

}  // namespace dovetail
