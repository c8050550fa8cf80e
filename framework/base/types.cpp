#include "framework/base/types.hpp"

#include <array>

namespace dovetail {
namespace {

template <class Enum>
struct Names;

// Each table lists the names in the order of the enumerators.
template <>
struct Names<DType> {
  static constexpr std::array<std::string_view, 7> kTable = {
      "float32", "float16", "bfloat16", "float64", "int32", "int64", "uint8"};
};

template <>
struct Names<WorkPhase> {
  static constexpr std::array<std::string_view, 3> kTable = {"prefill", "decode", "mixed"};
};

template <>
struct Names<HandOff> {
  static constexpr std::array<std::string_view, 2> kTable = {"threads", "inline"};
};

template <>
struct Names<GraphMode> {
  static constexpr std::array<std::string_view, 3> kTable = {"none", "piecewise", "full"};
};

template <>
struct Names<DeviceKind> {
  static constexpr std::array<std::string_view, 3> kTable = {"auto", "cpu", "cuda"};
};

template <>
struct Names<PassKind> {
  static constexpr std::array<std::string_view, 3> kTable = {"full", "compute_only", "comm_only"};
};

template <class Enum>
std::string_view name_of(Enum value) {
  return Names<Enum>::kTable.at(static_cast<std::size_t>(value));
}

}  // namespace

std::size_t size_of(DType dtype) {
  static constexpr std::array<std::size_t, 7> kBytes = {4, 2, 2, 8, 4, 8, 1};
  return kBytes.at(static_cast<std::size_t>(dtype));
}

std::string_view to_string(DType value) {
  return name_of(value);
}

std::string_view to_string(WorkPhase value) {
  return name_of(value);
}

std::string_view to_string(HandOff value) {
  return name_of(value);
}

std::string_view to_string(GraphMode value) {
  return name_of(value);
}

std::string_view to_string(DeviceKind value) {
  return name_of(value);
}

std::string_view to_string(PassKind value) {
  return name_of(value);
}

template <class Enum>
std::optional<Enum> parse(std::string_view name) {
  const auto& table = Names<Enum>::kTable;
  for (std::size_t i = 0; i < table.size(); ++i) {
    if (table[i] == name) {
      return static_cast<Enum>(i);
    }
  }
  return std::nullopt;
}

template <class Enum>
std::span<const std::string_view> names() {
  return Names<Enum>::kTable;
}

template std::optional<DType> parse<DType>(std::string_view);
template std::optional<WorkPhase> parse<WorkPhase>(std::string_view);
template std::optional<HandOff> parse<HandOff>(std::string_view);
template std::optional<GraphMode> parse<GraphMode>(std::string_view);
template std::optional<DeviceKind> parse<DeviceKind>(std::string_view);
template std::optional<PassKind> parse<PassKind>(std::string_view);
template std::span<const std::string_view> names<DType>();
template std::span<const std::string_view> names<WorkPhase>();
template std::span<const std::string_view> names<HandOff>();
template std::span<const std::string_view> names<GraphMode>();
template std::span<const std::string_view> names<DeviceKind>();
template std::span<const std::string_view> names<PassKind>();

}  // namespace dovetail
