// Enums by name, as written in experiment and result files: one table an enum, and to_string, parse
// and names for all of them.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

namespace dovetail {

/// Specialise with `static constexpr std::array<std::string_view, N> kTable`, in the order of the
/// enumerators, which count up from 0.
template <class Enum>
struct EnumNames;

template <class Enum>
concept NamedEnum = requires {
  EnumNames<Enum>::kTable;
};

/// "unknown" for a number that is no enumerator.
template <NamedEnum Enum>
constexpr std::string_view to_string(Enum value) {
  const auto index = static_cast<std::size_t>(value);
  return index < EnumNames<Enum>::kTable.size() ? EnumNames<Enum>::kTable[index] : "unknown";
}

/// All names, for messages that say what is allowed.
template <NamedEnum Enum>
constexpr std::span<const std::string_view> names() {
  return EnumNames<Enum>::kTable;
}

/// The inverse of to_string; nothing where the name is unknown.
template <NamedEnum Enum>
constexpr std::optional<Enum> parse(std::string_view name) {
  for (std::size_t i = 0; i < names<Enum>().size(); ++i) {
    if (names<Enum>()[i] == name) {
      return static_cast<Enum>(i);
    }
  }
  return std::nullopt;
}

}  // namespace dovetail
