// Attention of one query a segment over paged keys: bound by the bytes of keys and values, so each
// is read once, in 16-byte loads, straight into the registers in which the tensor cores want it.
//
// One block takes a segment, up to eight query heads of one kv head, and a part (split) of the
// keys; its warps take turns by tiles of 16 keys. With lane = 4 g + t, the fragments of
// mma.m16n8k16 are: A: rows g and g + 8, columns 2t, 2t + 1, 2t + 8, 2t + 9; B: the same columns'
// rows, column g; C: rows g and g + 8, columns 2t, 2t + 1.
// - Scores: A = keys (16 keys, 16 dims), B = queries (16 dims, 8 heads). A sum over dims may run in
//   any order, so a lane takes 8 neighbouring dims of its keys and of its query: two products.
// - Results: A = values transposed (16 dims, 16 keys), B = shares (16 keys, 8 heads). A lane holds
//   8 neighbouring dims of its four keys, so rows g and g + 8 of product j are its dims 2j, 2j + 1.
// Shares come out of the scores with keys by g and heads by t, and are transposed by movmatrix.
#pragma once

#include <cstdint>

#include "models/layers/cuda/bf16.cuh"
#include "models/layers/cuda/decode_splits.cuh"
#include "models/layers/cuda/kernels.hpp"

namespace dovetail::gpu::decode {

inline constexpr int kWarps = 4;
inline constexpr int kThreads = kWarps * kWarpSize;
inline constexpr int kTileKeys = 16;
inline constexpr int kHeads = 8;   // of a block
inline constexpr int kVector = 8;  // dims that a lane loads at once

struct DecodeCall {
  const bf16* queries;
  std::int64_t query_stride;
  bf16* result;
  const bf16* keys;
  const bf16* values;
  DeviceSegments segments;
  float* partial;         // [splits, segments, heads, head_dim]: sums of this split
  float2* partial_stats;  // [splits, segments, heads]: largest score, sum of shares
  std::int64_t tokens;
  int heads;
  int kv_heads;
  int group;       // query heads of a kv head
  int head_tiles;  // blocks that share a kv head
  int head_dim;
  int page_size;
  int splits;
  bool split_by_length;
  float scale_log2;  // of the scores, for powers of 2
};

/// c += a b, a [16, 16], b [16, 8].
__device__ __forceinline__ void multiply_add(
    float (&c)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/// An 8 x 8 matrix, two neighbours of a row a lane, transposed. `low` is the left one.
__device__ __forceinline__ unsigned transposed(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  unsigned result = 0;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;"
               : "=r"(result)
               : "r"(*reinterpret_cast<const unsigned*>(&pair)));
  return result;
}

/// Dims [8 chunk, 8 chunk + 8) of a head; zeros behind its end.
__device__ __forceinline__ uint4 load_chunk(const bf16* head, int chunk, int head_dim) {
  return chunk * kVector < head_dim ? __ldg(reinterpret_cast<const uint4*>(head + chunk * kVector))
                                    : uint4{0, 0, 0, 0};
}

/// Zeros for this block's heads of the `number`-th padding row, if there is one.
__device__ inline void zero_padding_row(const DecodeCall& x,
                                        int number,
                                        int first_head,
                                        int num_heads) {
  const std::int64_t row = std::int64_t{x.segments.query_starts[x.segments.count]} + number;
  if (row < x.tokens) {
    bf16* const to = x.result + (row * x.heads + first_head) * x.head_dim;
    for (int i = static_cast<int>(threadIdx.x); i < num_heads * x.head_dim / kVector;
         i += kThreads) {
      store_vector<kVector>(to + i * kVector, Bf16Vector<kVector>{});
    }
  }
}

/// Running softmax of the keys that a warp has seen. kBlocks: head_dim in units of 32, rounded up.
template <int kBlocks>
struct WarpAttention {
  float sums[kBlocks / 2][4][4] = {};           // C fragments: shares times values
  float largest[2] = {-kInfinity, -kInfinity};  // score of heads 2t and 2t + 1
  float total[2] = {0, 0};                      // of the shares of this lane's keys

  /// `slot`: of key base + lane % 16; keys from `end` on do not count (but their slots hold keys).
  __device__ void add_tile(const DecodeCall& x,
                           const uint4 (&query)[kBlocks],
                           std::int64_t head_offset,
                           int slot,
                           int base,
                           int end) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    const int g = lane / 4;
    const int t = lane % 4;
    const std::int64_t slot_size = std::int64_t{x.kv_heads} * x.head_dim;
    const auto head_at = [&](const bf16* cache, int key) {
      return cache + __shfl_sync(kAllLanes, slot, key) * slot_size + head_offset;
    };
    float scores[4] = {};
    {
      const bf16* const key_low = head_at(x.keys, g);
      const bf16* const key_high = head_at(x.keys, g + 8);
      uint4 low[kBlocks];
      uint4 high[kBlocks];
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        low[b] = load_chunk(key_low, 4 * b + t, x.head_dim);
        high[b] = load_chunk(key_high, 4 * b + t, x.head_dim);
      }
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        multiply_add(scores, low[b].x, high[b].x, low[b].y, high[b].y, query[b].x, query[b].y);
        multiply_add(scores, low[b].z, high[b].z, low[b].w, high[b].w, query[b].z, query[b].w);
      }
    }
    const bf16* const values[4] = {head_at(x.values, 2 * t),
                                   head_at(x.values, 2 * t + 1),
                                   head_at(x.values, 2 * t + 8),
                                   head_at(x.values, 2 * t + 9)};
    uint4 value[kBlocks / 2][4];
#pragma unroll
    for (int b = 0; b < kBlocks / 2; ++b) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        value[b][i] = load_chunk(values[i], 8 * b + g, x.head_dim);
      }
    }
    shares_of(scores, x.scale_log2, base + g < end, base + g + 8 < end);
    const unsigned shares_low = transposed(scores[0], scores[1]);
    const unsigned shares_high = transposed(scores[2], scores[3]);
#pragma unroll
    for (int b = 0; b < kBlocks / 2; ++b) {
      add_product(sums[b][0],
                  value[b][0].x,
                  value[b][1].x,
                  value[b][2].x,
                  value[b][3].x,
                  shares_low,
                  shares_high);
      add_product(sums[b][1],
                  value[b][0].y,
                  value[b][1].y,
                  value[b][2].y,
                  value[b][3].y,
                  shares_low,
                  shares_high);
      add_product(sums[b][2],
                  value[b][0].z,
                  value[b][1].z,
                  value[b][2].z,
                  value[b][3].z,
                  shares_low,
                  shares_high);
      add_product(sums[b][3],
                  value[b][0].w,
                  value[b][1].w,
                  value[b][2].w,
                  value[b][3].w,
                  shares_low,
                  shares_high);
    }
  }

  /// Scores -> shares, relative to the largest score so far; what was summed before is scaled to
  /// it.
  __device__ void shares_of(float (&scores)[4],
                            float scale_log2,
                            bool low_counts,
                            bool high_counts) {
#pragma unroll
    for (int head = 0; head < 2; ++head) {
      const float low = low_counts ? scores[head] * scale_log2 : -kInfinity;
      const float high = high_counts ? scores[2 + head] * scale_log2 : -kInfinity;
      float best = fmaxf(low, high);
#pragma unroll
      for (int step = 4; step < kWarpSize; step *= 2) {
        best = fmaxf(best, __shfl_xor_sync(kAllLanes, best, step));
      }
      best = fmaxf(best, largest[head]);  // finite: the first key of a tile counts
      const float factor = exp2f(largest[head] - best);
      largest[head] = best;
      scores[head] = exp2f(low - best);
      scores[2 + head] = exp2f(high - best);
      total[head] = total[head] * factor + scores[head] + scores[2 + head];
#pragma unroll
      for (int b = 0; b < kBlocks / 2; ++b) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          sums[b][j][head] *= factor;
          sums[b][j][2 + head] *= factor;
        }
      }
    }
  }

  /// Two neighbouring dims of four keys each, in one word a key.
  __device__ static void add_product(float (&sum)[4],
                                     unsigned key0,
                                     unsigned key1,
                                     unsigned key8,
                                     unsigned key9,
                                     unsigned shares_low,
                                     unsigned shares_high) {
    constexpr unsigned low_halves = 0x5410;
    constexpr unsigned high_halves = 0x7632;
    multiply_add(sum,
                 __byte_perm(key0, key1, low_halves),
                 __byte_perm(key0, key1, high_halves),
                 __byte_perm(key8, key9, low_halves),
                 __byte_perm(key8, key9, high_halves),
                 shares_low,
                 shares_high);
  }
};

/// What the warps of a block found, in shared memory.
template <int kBlocks>
struct alignas(16) BlockAttention {
  float sums[kWarps][kHeads][kBlocks * 32];
  float largest[kWarps][kHeads];
  float total[kWarps][kHeads];

  __device__ void store(const WarpAttention<kBlocks>& of_warp) {
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    const int g = lane / 4;
    const int t = lane % 4;
#pragma unroll
    for (int b = 0; b < kBlocks / 2; ++b) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float(&sum)[4] = of_warp.sums[b][j];
        const int dim = (8 * b + g) * kVector + 2 * j;
        *reinterpret_cast<float2*>(&sums[warp][2 * t][dim]) = {sum[0], sum[2]};
        *reinterpret_cast<float2*>(&sums[warp][2 * t + 1][dim]) = {sum[1], sum[3]};
      }
    }
#pragma unroll
    for (int head = 0; head < 2; ++head) {
      float all = of_warp.total[head];
#pragma unroll
      for (int step = 4; step < kWarpSize; step *= 2) {
        all += __shfl_xor_sync(kAllLanes, all, step);
      }
      if (g == 0) {
        largest[warp][2 * t + head] = of_warp.largest[head];
        total[warp][2 * t + head] = all;
      }
    }
  }

  /// The largest score of a head, and the sum of its shares and of shares times values (of `dim`)
  /// relative to it.
  __device__ float3 joined(int head, int dim) const {
    float best = -kInfinity;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
      best = fmaxf(best, largest[warp][head]);
    }
    float3 result = {best, 0, 0};
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
      if (largest[warp][head] != -kInfinity) {  // the warp has seen keys
        const float factor = exp2f(largest[warp][head] - best);
        result.y += factor * total[warp][head];
        result.z += factor * sums[warp][head][dim];
      }
    }
    return result;
  }
};

}  // namespace dovetail::gpu::decode
