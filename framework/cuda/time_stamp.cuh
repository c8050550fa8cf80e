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

/// At the end of a kernel, by all threads of each block: the latest block's time stays, since the
/// clock never goes back. The end of the kernel itself, which its last writes have to wait for, is
/// later, by less than 1 us. `word` is take_end_stamp()'s, or null: nothing is written.
__device__ inline void write_end_stamp(std::uint64_t* word) {
  if (word == nullptr) {
    return;
  }
  __syncthreads();
  if ((threadIdx.x | threadIdx.y | threadIdx.z) == 0) {
    atomicMax(reinterpret_cast<unsigned long long*>(word), global_timer_ns());
  }
}

}  // namespace dovetail
