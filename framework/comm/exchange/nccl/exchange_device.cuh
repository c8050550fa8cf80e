// What the kernels of a device exchange share.
#pragma once

#include <cstdint>

#include "framework/comm/exchange/nccl/exchange_kernels.hpp"

namespace dovetail::device {

inline constexpr int kWarp = 32;
inline constexpr int kScanThreads = 1024;
inline constexpr int kRowThreads = 256;
// Some waves of the largest supported GPU; loops stride over what is more.
inline constexpr std::int64_t kMostCtas = 1056;

/// Exclusive prefix sum of `value` over the CTA; `total` is the sum. All threads call it;
/// blockDim.x is a multiple of 32, at most 1024. `sums` holds 32 words of shared memory.
__device__ inline int block_prefix(int value, int* sums, int& total) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int num_warps = static_cast<int>(blockDim.x) / kWarp;
  int inclusive = value;
  for (int step = 1; step < kWarp; step *= 2) {
    const int before = __shfl_up_sync(0xffffffffU, inclusive, step);
    inclusive += lane >= step ? before : 0;
  }
  if (lane == kWarp - 1) {
    sums[warp] = inclusive;
  }
  __syncthreads();
  int before = 0;
  int all = 0;
  for (int w = 0; w < num_warps; ++w) {
    before += w < warp ? sums[w] : 0;
    all += sums[w];
  }
  __syncthreads();  // the next call writes sums
  total = all;
  return before + inclusive - value;
}

/// Rows of a block that have come with a group of experts or an earlier one, whatever its header
/// says within what it can hold.
__device__ inline std::int64_t block_rows(const std::int32_t* header,
                                          const BlockLayout& block,
                                          int group) {
  const std::int64_t rows = header[BlockLayout::kFirstEnd + group];
  return rows < 0 ? 0 : rows > block.capacity ? block.capacity : rows;
}

__device__ inline const std::int32_t* head_of(const Arrivals& arrivals, std::int64_t source) {
  return reinterpret_cast<const std::int32_t*>(arrivals.heads + source * arrivals.head_stride);
}

/// A unit of N elements that moves in one load.
template <class T, int N>
struct alignas(sizeof(T) * N) Unit {
  T values[N];
};

inline int num_ctas(std::int64_t rows, std::int64_t most) {
  return static_cast<int>(rows < 1 ? 1 : rows > most ? most : rows);
}

// CTAs per source rank in kernels whose grid is (rows, source).
inline constexpr std::int64_t kMostCtasPerSource = 528;

inline dim3 grid_of(const Arrivals& arrivals) {
  return {static_cast<unsigned>(num_ctas(arrivals.block.capacity, kMostCtasPerSource)),
          static_cast<unsigned>(arrivals.ep_size),
          1};
}

inline bool is_aligned(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
}

}  // namespace dovetail::device
