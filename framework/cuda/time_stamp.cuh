// The device's side of a time stamp: what a kernel does with the word that its launcher has taken.
#pragma once

#include <cstdint>

#include "framework/cuda/global_timer.cuh"

namespace dovetail {

/// At the beginning of a kernel, by all threads: the first one of the first block, which no block
/// comes before, writes the time. `word` is take_time_stamp()'s, or null: nothing is written.
__device__ inline void write_time_stamp(std::uint64_t* word) {
  if (word != nullptr &&
      (blockIdx.x | blockIdx.y | blockIdx.z | threadIdx.x | threadIdx.y | threadIdx.z) == 0) {
    *word = global_timer_ns();
  }
}

}  // namespace dovetail
