// The numbers behind seeded weights: the counter-based generator's stream of a parameter.
#pragma once

#include <cstdint>
#include <string_view>

#include "framework/base/hash.hpp"
#include "framework/base/seeded_values.hpp"

namespace dovetail {

/// 64-bit FNV-1a of a parameter's name.
constexpr std::uint64_t parameter_key(std::string_view name) {
  Fnv1a hash;
  hash.add_bytes(name);
  return hash.value();
}

}  // namespace dovetail
