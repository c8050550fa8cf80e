#include "models/weights/block_scaled.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>

#include "framework/base/check.hpp"
#include "models/weights/convert.hpp"

namespace dovetail {
namespace {

float value_of(unsigned bits) {
  const unsigned exponent = bits >> 3U & 15U;
  const unsigned mantissa = bits & 7U;
  if (exponent == 15 && mantissa == 7) {
    return std::numeric_limits<float>::quiet_NaN();
  }
  const float size =
      exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                    : std::ldexp(static_cast<float>(8 + mantissa), static_cast<int>(exponent) - 10);
  return (bits & 128U) != 0 ? -size : size;
}

std::array<float, 256> make_values() {
  std::array<float, 256> values = {};
  for (unsigned bits = 0; bits < values.size(); ++bits) {
    values[bits] = value_of(bits);
  }
  return values;
}

}  // namespace

std::string scales_name(const std::string& weight) {
  return weight + "_scale_inv";
}

float float8_value(std::uint8_t bits) {
  static const std::array<float, 256> values = make_values();
  return values[bits];
}

float exponent8_value(std::uint8_t bits) {
  constexpr std::uint8_t nan = 255;
  constexpr int bias = 127;
  return bits == nan ? std::numeric_limits<float>::quiet_NaN()
                     : std::ldexp(1.0F, static_cast<int>(bits) - bias);
}

void convert_block_scaled(std::span<const std::byte> source,
                          std::int64_t first,
                          const BlockScales& scales,
                          std::byte* destination,
                          DType to) {
  const std::int64_t end = first + static_cast<std::int64_t>(source.size());
  const std::int64_t blocks = num_scale_blocks(scales.columns);
  std::array<float, kScaleBlock> scaled;
  // A run of one row within one block has one factor.
  for (std::int64_t at = first; at < end;) {
    const std::int64_t row = at / scales.columns;
    const std::int64_t column = at % scales.columns;
    const std::int64_t run_end =
        std::min((column / kScaleBlock + 1) * kScaleBlock, scales.columns) - column;
    const std::int64_t count = std::min(run_end, end - at);
    const std::int64_t block_row = scales.block_row(row) - scales.first_block_row;
    const std::int64_t block = block_row * blocks + column / kScaleBlock;
    DOVETAIL_CHECK(block_row >= 0 && block < std::ssize(scales.values), "a row without scales");
    const float scale = scales.values[static_cast<std::size_t>(block)];
    for (std::int64_t i = 0; i < count; ++i) {
      const auto bits =
          std::to_integer<std::uint8_t>(source[static_cast<std::size_t>(at - first + i)]);
      scaled[static_cast<std::size_t>(i)] = float8_value(bits) * scale;
    }
    convert_elements(reinterpret_cast<const std::byte*>(scaled.data()),
                     DType::float32,
                     destination + (at - first) * static_cast<std::int64_t>(size_of(to)),
                     to,
                     count);
    at += count;
  }
}

}  // namespace dovetail
