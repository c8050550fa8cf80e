// Small integer hashing for seeds, digests and counter-based random numbers: the same on every
// machine.
#pragma once

#include <cstdint>

#include "framework/base/host_device.hpp"

namespace dovetail {

/// SplitMix64's output function: a bijection of 64-bit integers that passes statistical tests on
/// counters (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
DOVETAIL_HOST_DEVICE constexpr std::uint64_t mix_bits(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15ULL;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31);
}

/// Hash of a sequence: fold values into it one by one.
DOVETAIL_HOST_DEVICE constexpr std::uint64_t combine_hash(std::uint64_t hash, std::uint64_t value) {
  return mix_bits(hash ^ mix_bits(value));
}

}  // namespace dovetail
