// Dot products in one order of additions: the products of `numerics: batch_invariant` on a CPU.
// No library chooses a kernel here, so bits depend neither on the number of rows, nor on a row's
// place or alignment, nor on the processor.
#pragma once

#include <cstdint>

namespace dovetail {

/// Rows of `length` neighbouring elements, at any address.
struct FloatRows {
  const float* data = nullptr;
  std::int64_t count = 0;
  std::int64_t length = 0;
};

/// result[i * w.count + j] = the dot product of x's row i and w's row j, in float32: eight sums of
/// every eighth element by fused multiply-add, added up in order, then what is left of the length.
/// x.length == w.length. Any thread.
void dot_rows(const FloatRows& x, const FloatRows& w, float* result);

/// The same to the bit, without vector instructions; slow where the processor lacks a fused
/// multiply-add.
void dot_rows_portable(const FloatRows& x, const FloatRows& w, float* result);

}  // namespace dovetail
