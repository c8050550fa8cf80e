// Loops over rows on the host: copies and the sums of an exchange. Raw pointers; sums are in
// float32 in a fixed order and rounded once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <c10/core/ScalarType.h>

#include "framework/comm/exchange/arrangement.hpp"

namespace dovetail {

/// Rows ordered by rank, of which this rank's own lie in a buffer of their own, because own rows
/// never travel. Row n of the whole order is row(n).
struct SplitRows {
  const std::byte* travelled = nullptr;  ///< rows of the other ranks, without a gap
  const std::byte* own = nullptr;        ///< first own row
  std::int64_t own_begin = 0;            ///< own rows are [own_begin, own_begin + own_count)
  std::int64_t own_count = 0;
  std::int64_t row_bytes = 0;

  const std::byte* row(std::int64_t n) const {
    if (n < own_begin) {
      return travelled + n * row_bytes;
    }
    return n < own_begin + own_count ? own + (n - own_begin) * row_bytes
                                     : travelled + (n - own_count) * row_bytes;
  }
};

/// Expert rows of a rank, of which each group of experts has made its own.
struct GroupedRows {
  struct Part {
    const std::byte* data = nullptr;
    std::int64_t end = 0;  ///< of its rows in the whole order
  };

  std::vector<Part> parts;  ///< by group
  std::int64_t row_bytes = 0;

  /// Of a group that is there.
  const std::byte* row(std::int64_t n) const {
    std::size_t part = 0;
    while (n >= parts[part].end) {
      ++part;
    }
    return parts[part].data + (n - (part == 0 ? 0 : parts[part - 1].end)) * row_bytes;
  }
};

/// out[i] = source[order[i]]; rows of row_bytes.
void copy_rows(const std::byte* source,
               std::span<const std::int32_t> order,
               std::int64_t row_bytes,
               std::byte* out);
void copy_rows(const SplitRows& source, std::span<const std::int32_t> order, std::byte* out);
void copy_rows(const GroupedRows& source, std::span<const std::int32_t> order, std::byte* out);

/// One row per slot of [first_slot, end_slot): the weighted sum of its expert rows in ascending k.
/// rows [expert rows][hidden], out [slots][hidden], both of `dtype`.
void sum_choices(at::ScalarType dtype,
                 std::int64_t hidden,
                 const Arrangement& arrangement,
                 std::int64_t first_slot,
                 std::int64_t end_slot,
                 const GroupedRows& rows,
                 void* out);

/// One row per token: the sum of its parts in the order of `parts`, zeros where it has none.
/// part_begin [T + 1] into parts; parts are rows of `rows`; out [T][hidden], all of `dtype`.
void sum_parts(at::ScalarType dtype,
               std::int64_t hidden,
               std::span<const std::int64_t> part_begin,
               std::span<const std::int32_t> parts,
               const SplitRows& rows,
               void* out);

/// The same with a weight for each part: what sum_choices makes of the same rows, to the bit.
void sum_weighted_parts(at::ScalarType dtype,
                        std::int64_t hidden,
                        std::span<const std::int64_t> part_begin,
                        std::span<const std::int32_t> parts,
                        std::span<const float> weights,
                        const SplitRows& rows,
                        void* out);

}  // namespace dovetail
