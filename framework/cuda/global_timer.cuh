// The clock that all kernels of a GPU read.
#pragma once

#include <cstdint>

namespace dovetail {

/// Nanoseconds; equal on all SMs of the device. How often it moves on is up to the device.
__device__ inline std::uint64_t global_timer_ns() {
  std::uint64_t now = 0;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

/// Keeps the calling thread busy until so much time has passed.
__device__ inline void spin_for(std::uint64_t ns) {
  const std::uint64_t start = global_timer_ns();
  while (global_timer_ns() - start < ns) {
  }
}

}  // namespace dovetail
