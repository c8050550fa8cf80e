// The sums of a warpgroup in decode over latents, and shares that warpgroups give each other.
#pragma once

#include <cstdint>

#include "models/layers/cuda/latent_decode.cuh"
#include "models/layers/cuda/wgmma.cuh"

namespace dovetail::gpu::latent {

/// Sums of shares times half of the values, for rows g and g + 8 of each warp.
struct HalfSums {
  float values[kHalfDim / 2] = {};

  /// Mostly there is nothing to do: the largest score of many keys seldom changes.
  __device__ __forceinline__ void multiply_by(float low, float high) {
    if (__all_sync(kAllLanes, static_cast<int>(low == 1 && high == 1)) != 0) {
      return;
    }
#pragma unroll
    for (int i = 0; i < kHalfDim / 2; ++i) {
      values[i] *= i % 4 < 2 ? low : high;
    }
  }

  /// Begins += shares times values. The shares are those of this warpgroup, in registers, or an
  /// operand in shared memory.
  __device__ __forceinline__ void begin_adding(const unsigned (&shares)[kTileKeys / 16][4],
                                               unsigned half) {
#pragma unroll
    for (int step = 0; step < kTileKeys / 16; ++step) {
      multiply_add(values, shares[step], operand(half, step));
    }
    end_products();
  }

  __device__ __forceinline__ void begin_adding(unsigned shares, unsigned half) {
#pragma unroll
    for (int step = 0; step < kTileKeys / 16; ++step) {
      multiply_add(values, row_major_operand(shares, step * 32), operand(half, step));
    }
    end_products();
  }

  __device__ __forceinline__ static std::uint64_t operand(unsigned half, int step) {
    return column_major_operand(half, step * 2 * kAtomBytes, kSlabBytes);
  }

  /// `low` and `high`: what rows g and g + 8 are multiplied by.
  __device__ __forceinline__ void store(
      const Call& x, const Part& part, int half, float low, float high) const {
    const int warp = static_cast<int>(threadIdx.x) % kWarpgroup / kWarpSize;
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
    for (int of_pair = 0; of_pair < 2; ++of_pair) {
      const int head = warp * 16 + lane / 4 + 8 * of_pair;
      if (head >= part.num_heads) {
        continue;
      }
      const float factor = of_pair == 0 ? low : high;
      const std::int64_t place = part.place(x) + head;
      bf16* const row = x.result + part.row * x.result_token_stride +
                        (part.first_head + head) * x.result_head_stride;
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        const int dim = half * kHalfDim + i * 8 + lane % 4 * 2;
        const float* const pair = values + i * 4 + 2 * of_pair;
        if (x.splits == 1) {
          *reinterpret_cast<__nv_bfloat162*>(row + dim) =
              __floats2bfloat162_rn(pair[0] * factor, pair[1] * factor);
        } else {
          *reinterpret_cast<float2*>(x.partial + place * kLatentValueDim + dim) = {pair[0],
                                                                                   pair[1]};
        }
      }
    }
  }
};

/// A tile's shares in shared memory, as the rows of an operand.
__device__ __forceinline__ void store_shares(const unsigned (&shares)[kTileKeys / 16][4],
                                             unsigned char* to) {
  const int warp = static_cast<int>(threadIdx.x) % kWarpgroup / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  // This lane names rows, then columns + 8. Two chunks further is one bit of the swizzle.
  unsigned place = shared_address(to) + swizzled(warp * 16 + lane % 16, lane / 16);
  asm volatile("" : "+r"(place));  // one register, not four that are held
#pragma unroll
  for (int step = 0; step < kTileKeys / 16; ++step) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                     place ^ (2 * step * kChunkBytes)),
                 "r"(shares[step][0]),
                 "r"(shares[step][1]),
                 "r"(shares[step][2]),
                 "r"(shares[step][3])
                 : "memory");
  }
}

}  // namespace dovetail::gpu::latent
