// The hashes behind seeds, digests and counter-based random numbers: the same on every machine.
// Digests that files hold are made of them, so what they give never changes. None of them is
// cryptographic.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>

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

/// Hash of these numbers in their order: names what several numbers name together. Folding them
/// into a hash of the first one would give the first two the same name in both orders.
constexpr std::uint64_t hash_of(std::initializer_list<std::uint64_t> values) {
  std::uint64_t hash = 1;
  for (const std::uint64_t value : values) {
    hash = combine_hash(hash, value);
  }
  return hash;
}

/// combine_hash of every byte as a number from 0 to 255. The size is not part of it: where another
/// text follows, fold the size in first.
constexpr std::uint64_t combine_hash_bytes(std::uint64_t hash, std::string_view bytes) {
  for (const char byte : bytes) {
    hash = combine_hash(hash, static_cast<unsigned char>(byte));
  }
  return hash;
}

/// 64-bit FNV-1a (Fowler, Noll, Vo; draft-eastlake-fnv) of bytes in their order.
class Fnv1a {
 public:
  constexpr void add_byte(unsigned char byte) { value_ = (value_ ^ byte) * 0x100000001b3ULL; }

  constexpr void add_bytes(std::string_view bytes) {
    for (const char byte : bytes) {
      add_byte(static_cast<unsigned char>(byte));
    }
  }

  /// The eight bytes of a number, the lowest one first.
  constexpr void add_number(std::uint64_t number) {
    for (int i = 0; i < 8; ++i) {
      add_byte(static_cast<unsigned char>(number >> (8 * i)));
    }
  }

  constexpr std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325ULL;
};

}  // namespace dovetail
