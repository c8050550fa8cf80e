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

  /// The results; `factors`: what rows g and g + 8 are multiplied by.
  __device__ __forceinline__ void store(const Call& x,
                                        const Part& part,
                                        int half,
                                        const float (&factors)[2]) const {
    const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int of_pair = 0; of_pair < 2; ++of_pair) {
      const int head = head_of(of_pair);
      bf16* const to = x.result + part.row * x.result_token_stride +
                       (part.first_head + head) * x.result_head_stride + half * kHalfDim + t * 8;
#pragma unroll
      for (int i = 0; i < kHalfDim / 32; ++i) {
        unsigned words[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float* const pair = values + (4 * i + j) * 4 + 2 * of_pair;
          const __nv_bfloat162 rounded =
              __floats2bfloat162_rn(pair[0] * factors[of_pair], pair[1] * factors[of_pair]);
          words[j] = *reinterpret_cast<const unsigned*>(&rounded);
        }
        transpose(words);
        if (head < part.num_heads) {
          *reinterpret_cast<uint4*>(to + i * 32) = {words[0], words[1], words[2], words[3]};
        }
      }
    }
  }

  /// For joining the splits.
  __device__ __forceinline__ void store_partial(const Call& x, const Part& part, int half) const {
#pragma unroll
    for (int of_pair = 0; of_pair < 2; ++of_pair) {
      const int head = head_of(of_pair);
      float* const to = x.partial + (part.place(x) + head) * kLatentValueDim + half * kHalfDim +
                        threadIdx.x % 4 * 2;
      if (head < part.num_heads) {
#pragma unroll
        for (int i = 0; i < kHalfDim / 8; ++i) {
          const float* const pair = values + i * 4 + 2 * of_pair;
          *reinterpret_cast<float2*>(to + i * 8) = {pair[0], pair[1]};
        }
      }
    }
  }

 private:
  __device__ __forceinline__ static int head_of(int of_pair) {
    return static_cast<int>(threadIdx.x) % kWarpgroup / kWarpSize * 16 +
           static_cast<int>(threadIdx.x) % kWarpSize / 4 + 8 * of_pair;
  }

  /// Word j of lane t of four to lane j, as word t: a lane has 16 neighbouring bytes of a row then,
  /// and stores them at once.
  __device__ __forceinline__ static void transpose(unsigned (&words)[4]) {
#pragma unroll
    for (int step = 1; step <= 2; step *= 2) {
      const bool upper = (threadIdx.x & static_cast<unsigned>(step)) != 0;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int low = step == 1 ? 2 * i : i;
        unsigned& kept_below = words[low];
        unsigned& kept_above = words[low + step];
        const unsigned got = __shfl_xor_sync(kAllLanes, upper ? kept_below : kept_above, step);
        kept_below = upper ? got : kept_below;
        kept_above = upper ? kept_above : got;
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
