// Blocks whose every word says from whom to whom it goes, for ceilings.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace dovetail {

/// int32 [R][words]. The own block is as received from the start.
struct BenchPattern {
  int rank = 0;
  at::Tensor send;
  at::Tensor receive;
  at::Tensor wanted;

  /// Fills the blocks of other ranks in `receive` with what nobody sends.
  void clear() const;

  /// Words of `receive` that are not as they should be.
  std::int64_t wrong_words() const;
};

/// Blocks of `bytes`, a multiple of 4.
BenchPattern make_pattern(int rank, int num_ranks, std::int64_t bytes, at::Device device);

}  // namespace dovetail
