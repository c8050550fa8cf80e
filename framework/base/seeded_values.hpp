// Counter-based random numbers: a value depends on nothing but seed, stream and index. Plain
// integer functions without state, to be shared with device code.
#pragma once

#include <cstdint>

#include "framework/base/host_device.hpp"

namespace dovetail {

/// Four random words: values 4n to 4n+3 of a stream.
struct RandomBlock {
  std::uint32_t words[4];
};

/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): key =
/// seed, counter = (block, stream), each low word first.
DOVETAIL_HOST_DEVICE constexpr RandomBlock random_block(std::uint64_t seed,
                                                        std::uint64_t stream,
                                                        std::uint64_t block) {
  auto key0 = static_cast<std::uint32_t>(seed);
  auto key1 = static_cast<std::uint32_t>(seed >> 32);
  auto c0 = static_cast<std::uint32_t>(block);
  auto c1 = static_cast<std::uint32_t>(block >> 32);
  auto c2 = static_cast<std::uint32_t>(stream);
  auto c3 = static_cast<std::uint32_t>(stream >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53U} * c0;
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57U} * c2;
    c0 = static_cast<std::uint32_t>(product1 >> 32) ^ c1 ^ key0;
    c1 = static_cast<std::uint32_t>(product1);
    c2 = static_cast<std::uint32_t>(product0 >> 32) ^ c3 ^ key1;
    c3 = static_cast<std::uint32_t>(product0);
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  return {{c0, c1, c2, c3}};
}

/// How a random word becomes a number: (offset + odd integer) * scale. The integer has at most 24
/// bits, so float32 holds it exactly; the product is the only rounding. Contracting it with another
/// operation is impossible: there is none.
struct SeededScale {
  std::int32_t offset = 0;
  unsigned shift =
      8;  ///< the integer is uniform over the odd ones in (-2^(32-shift), 2^(32-shift))
  float scale = 0.0F;
};

DOVETAIL_HOST_DEVICE constexpr float seeded_value(std::uint32_t word, const SeededScale& scale) {
  const auto half_range = std::int32_t{1} << (32U - scale.shift);
  const auto integer =
      scale.offset + 2 * static_cast<std::int32_t>(word >> scale.shift) + 1 - half_range;
  return static_cast<float>(integer) * scale.scale;
}

}  // namespace dovetail
