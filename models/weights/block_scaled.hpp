// Matrices of 8-bit floats with a factor for each block of 128 x 128 elements, as DeepSeek-V3 is
// published (arXiv:2412.19437, section 3.3). Knows no torch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "framework/base/types.hpp"

namespace dovetail {

inline constexpr std::int64_t kScaleBlock = 128;

/// The safetensors name of the element type: 4 bits of exponent, 3 of mantissa, no infinities.
inline constexpr std::string_view kFloat8 = "F8_E4M3";

/// Where the factors of a matrix lie: "x.weight" -> "x.weight_scale_inv".
std::string scales_name(const std::string& weight);

/// Of a float of 8 bits; exact. 0x7F and 0xFF are NaN.
float float8_value(std::uint8_t bits);

/// The factors of a matrix's rows, from that of the block with `first_row` on.
struct BlockScales {
  std::int64_t columns = 0;    ///< of the matrix
  std::int64_t first_row = 0;  ///< a multiple of kScaleBlock
  std::vector<float> values;   ///< [blocks of rows, blocks of columns]
};

/// Number of blocks that cover `size` elements; the last may be ragged.
constexpr std::int64_t num_scale_blocks(std::int64_t size) {
  return (size + kScaleBlock - 1) / kScaleBlock;
}

/// Writes elements [first, first + source.size()) of the row-major matrix, each times its block's
/// factor in float32, rounded once to `to`: float32, float16 or bfloat16 (ContractError for
/// others). The scales cover their rows.
void convert_block_scaled(std::span<const std::byte> source,
                          std::int64_t first,
                          const BlockScales& scales,
                          std::byte* destination,
                          DType to);

}  // namespace dovetail
