#include "models/layers/row_dots.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dovetail {
namespace {

constexpr int kLanes = 8;
/// Of a block: with its sums, 4 x 3 vectors of eight, it just fits the 16 registers of AVX2.
constexpr int kRows = 4;
constexpr int kColumns = 3;

struct Block {
  std::array<const float*, kRows> x;
  std::array<const float*, kColumns> w;
  std::int64_t length = 0;
};

using BlockResult = std::array<std::array<float, kColumns>, kRows>;
using BlockDots = void (*)(const Block&, BlockResult&);

/// The end of every dot product, from its eight sums and the index of the first element not in
/// them.
float finish(const float* sums, const float* x, const float* w, std::int64_t at, std::int64_t end) {
  float result = sums[0];
  for (int lane = 1; lane < kLanes; ++lane) {
    result += sums[lane];
  }
  for (; at < end; ++at) {
    result = std::fma(x[at], w[at], result);
  }
  return result;
}

void portable_block(const Block& block, BlockResult& result) {
  for (std::size_t i = 0; i < kRows; ++i) {
    for (std::size_t j = 0; j < kColumns; ++j) {
      const float* x = block.x[i];
      const float* w = block.w[j];
      std::array<float, kLanes> sums = {};
      std::int64_t at = 0;
      for (; at + kLanes <= block.length; at += kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
          sums[lane] = std::fma(x[at + static_cast<std::int64_t>(lane)],
                                w[at + static_cast<std::int64_t>(lane)],
                                sums[lane]);
        }
      }
      result[i][j] = finish(sums.data(), x, w, at, block.length);
    }
  }
}

#if defined(__x86_64__)

__attribute__((target("avx2,fma"))) void avx2_block(const Block& block, BlockResult& result) {
  __m256 sums[kRows][kColumns] = {};  // NOLINT(*-avoid-c-arrays): kept in registers
  std::int64_t at = 0;
  for (; at + kLanes <= block.length; at += kLanes) {
    __m256 w[kColumns];  // NOLINT(*-avoid-c-arrays)
#pragma GCC unroll 4
    for (std::size_t j = 0; j < kColumns; ++j) {
      w[j] = _mm256_loadu_ps(block.w[j] + at);
    }
#pragma GCC unroll 4
    for (std::size_t i = 0; i < kRows; ++i) {
      const __m256 x = _mm256_loadu_ps(block.x[i] + at);
#pragma GCC unroll 4
      for (std::size_t j = 0; j < kColumns; ++j) {
        sums[i][j] = _mm256_fmadd_ps(x, w[j], sums[i][j]);
      }
    }
  }
  for (std::size_t i = 0; i < kRows; ++i) {
    for (std::size_t j = 0; j < kColumns; ++j) {
      std::array<float, kLanes> lanes = {};
      _mm256_storeu_ps(lanes.data(), sums[i][j]);
      result[i][j] = finish(lanes.data(), block.x[i], block.w[j], at, block.length);
    }
  }
}

BlockDots best_block() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? avx2_block
                                                                         : portable_block;
}

#else

BlockDots best_block() {
  return portable_block;
}

#endif

/// A block that reaches over the end repeats the last row: all rows go the same way.
void dot_in_blocks(const FloatRows& x, const FloatRows& w, float* result, BlockDots dots) {
  Block block = {.x = {}, .w = {}, .length = x.length};
  BlockResult found = {};
  for (std::int64_t row = 0; row < x.count; row += kRows) {
    const std::int64_t rows = std::min<std::int64_t>(kRows, x.count - row);
    for (std::int64_t i = 0; i < kRows; ++i) {
      block.x[static_cast<std::size_t>(i)] = x.data + (row + std::min(i, rows - 1)) * x.length;
    }
    for (std::int64_t column = 0; column < w.count; column += kColumns) {
      const std::int64_t columns = std::min<std::int64_t>(kColumns, w.count - column);
      for (std::int64_t j = 0; j < kColumns; ++j) {
        block.w[static_cast<std::size_t>(j)] =
            w.data + (column + std::min(j, columns - 1)) * w.length;
      }
      dots(block, found);
      for (std::int64_t i = 0; i < rows; ++i) {
        std::copy_n(found[static_cast<std::size_t>(i)].begin(),
                    columns,
                    result + (row + i) * w.count + column);
      }
    }
  }
}

}  // namespace

void dot_rows(const FloatRows& x, const FloatRows& w, float* result) {
  static const BlockDots dots = best_block();
  dot_in_blocks(x, w, result, dots);
}

void dot_rows_portable(const FloatRows& x, const FloatRows& w, float* result) {
  dot_in_blocks(x, w, result, portable_block);
}

}  // namespace dovetail
