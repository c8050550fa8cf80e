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

/// The name of the type of factors that are powers of two: 8 bits of exponent.
inline constexpr std::string_view kExponent8 = "F8_E8M0";

/// Where the factors of a matrix lie: "x.weight" -> "x.weight_scale_inv".
std::string scales_name(const std::string& weight);

/// Of a float of 8 bits; exact. 0x7F and 0xFF are NaN.
float float8_value(std::uint8_t bits);

/// 2^(bits - 127); 0xFF is NaN.
float exponent8_value(std::uint8_t bits);

/// Number of blocks that cover `size` elements; the last may be ragged.
constexpr std::int64_t num_scale_blocks(std::int64_t size) {
  return (size + kScaleBlock - 1) / kScaleBlock;
}

/// Factors of rows of one matrix, or of several of one shape, stacked: each begins with a block of
/// its own.
struct BlockScales {
  std::int64_t rows = 0;             ///< of one matrix
  std::int64_t columns = 0;          ///< of the matrix
  std::int64_t first_block_row = 0;  ///< row of blocks of the first values
  std::vector<float> values = {};    ///< [rows of blocks, blocks of columns]

  /// The row of blocks of a row of elements, both counted over all matrices.
  std::int64_t block_row(std::int64_t row) const {
    return row / rows * num_scale_blocks(rows) + row % rows / kScaleBlock;
  }
};

/// Writes elements [first, first + source.size()) of the row-major matrices, each times its block's
/// factor in float32, rounded once to `to`: float32, float16 or bfloat16 (ContractError for
/// others). The scales cover their rows.
void convert_block_scaled(std::span<const std::byte> source,
                          std::int64_t first,
                          const BlockScales& scales,
                          std::byte* destination,
                          DType to);

}  // namespace dovetail
