// The numbers behind seeded weights: the counter-based generator's stream of a parameter.
#pragma once

#include <cstdint>
#include <string_view>

#include "framework/base/seeded_values.hpp"

namespace dovetail {

/// 64-bit FNV-1a of a parameter's name.
constexpr std::uint64_t parameter_key(std::string_view name) {
  std::uint64_t hash = 0xCBF29CE484222325U;
  for (const char character : name) {
    hash = (hash ^ static_cast<unsigned char>(character)) * 0x100000001B3U;
  }
  return hash;
}

}  // namespace dovetail
