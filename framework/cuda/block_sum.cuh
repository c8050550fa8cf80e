// A sum over the threads of a block, added to a number in device memory.
#pragma once

namespace dovetail {

inline constexpr int kSummedWarpSize = 32;

/// Adds (mod 2^64) the values of all threads of a block of kThreads to `*sum`. Every thread of the
/// block calls it; between two calls the block synchronises.
template <int kThreads>
__device__ void add_of_block(unsigned long long own, unsigned long long* sum) {
  constexpr int warps = kThreads / kSummedWarpSize;
  for (int distance = kSummedWarpSize / 2; distance > 0; distance /= 2) {
    own += __shfl_xor_sync(0xFFFFFFFFU, own, distance);
  }
  __shared__ unsigned long long of_warp[warps];
  if (threadIdx.x % kSummedWarpSize == 0) {
    of_warp[threadIdx.x / kSummedWarpSize] = own;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    unsigned long long total = 0;
    for (const unsigned long long each : of_warp) {
      total += each;
    }
    atomicAdd(sum, total);
  }
}

}  // namespace dovetail
