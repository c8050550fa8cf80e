// What the blocks of decode over latents (latent_decode.cu) are made of: their shared memory, the
// copies of keys, the products of each warpgroup and the running softmax.
#pragma once

#include <cstdint>

#include "models/layers/cuda/kernels.hpp"
#include "models/layers/cuda/wgmma.cuh"

namespace dovetail::gpu::latent {

inline constexpr int kHeads = 64;  // of a block
inline constexpr int kTileKeys = 64;
inline constexpr int kStages = 2;
inline constexpr int kValueSlabs = kLatentValueDim / kSlabColumns;
inline constexpr int kKeySlabs = kLatentKeyDim / kSlabColumns;
inline constexpr int kSlabBytes = kTileKeys * kSlabRowBytes;
inline constexpr int kTileBytes = kKeySlabs * kSlabBytes;
inline constexpr int kThreads = 2 * kWarpgroup;
inline constexpr int kHalfDim = kLatentValueDim / 2;  // of the values: a warpgroup's
inline constexpr float kInfinity = __builtin_huge_valf();

static_assert(kHeads == kTileKeys, "queries, keys and shares have slabs of one size");

struct Call {
  LatentQueries queries;
  bf16* result;
  std::int64_t result_token_stride;
  std::int64_t result_head_stride;
  const bf16* latents;
  DeviceSegments segments;
  float* partial;         // [splits, segments, heads, kLatentValueDim]: sums of this split
  float2* partial_stats;  // [splits, segments, heads]: largest score, sum of shares
  std::int64_t tokens;
  int heads;
  int page_size;
  int splits;
  bool split_by_length;
  float scale_log2;  // of the scores, for powers of 2
};

struct alignas(kAtomBytes) Shared {
  unsigned char queries[kTileBytes];
  unsigned char keys[kStages][kTileBytes];
  unsigned char shares[kSlabBytes];
  float factors[kHeads];  // what sums so far are multiplied by; in the end 1 / sum of the shares
  SharedBarrier keys_there[kStages];
  SharedBarrier keys_used[kStages];  // by the first warpgroup
  SharedBarrier shares_there;
  SharedBarrier shares_used;  // by the second warpgroup
};

/// What a block works on.
struct Part {
  int segment;
  int split;
  int first_head;
  int num_heads;
  std::int64_t row;  // of the query
  int begin;         // first key
  int end;

  /// The same in all lanes, and the compiler sees it: products need that.
  __device__ int num_tiles() const {
    return __shfl_sync(kAllLanes, (end - begin + kTileKeys - 1) / kTileKeys, 0);
  }
};

/// Zeros for rows behind the segments.
__device__ inline void zero_padding_row(const Call& x, int unit, int first_head, int num_heads) {
  const std::int64_t row = x.segments.query_starts[x.segments.count] + std::int64_t{unit};
  if (row >= x.tokens) {
    return;
  }
  constexpr int vectors = kLatentValueDim / 8;
  for (int i = static_cast<int>(threadIdx.x); i < num_heads * vectors; i += kThreads) {
    store_vector<8>(x.result + row * x.result_token_stride +
                        (first_head + i / vectors) * x.result_head_stride + i % vectors * 8,
                    Bf16Vector<8>{});
  }
}

/// Heads that are not there become zeros.
__device__ inline void load_queries(const Call& x, const Part& part, unsigned char* to) {
  constexpr int chunks = kKeySlabs * 8;
  for (int i = static_cast<int>(threadIdx.x); i < kHeads * chunks; i += kThreads) {
    const int head = i / chunks;
    const int chunk = i % chunks;
    uint4 word = {0, 0, 0, 0};
    if (head < part.num_heads) {
      const std::int64_t of_head = part.first_head + head;
      const auto* const from =
          chunk < kValueSlabs * 8
              ? static_cast<const bf16*>(x.queries.latent) +
                    part.row * x.queries.latent_token_stride +
                    of_head * x.queries.latent_head_stride + chunk * 8
              : static_cast<const bf16*>(x.queries.rope) + part.row * x.queries.rope_token_stride +
                    of_head * x.queries.rope_head_stride + (chunk - kValueSlabs * 8) * 8;
      word = *reinterpret_cast<const uint4*>(from);
    }
    *reinterpret_cast<uint4*>(to + chunk / 8 * kSlabBytes + swizzled(head, chunk % 8)) = word;
  }
  publish_to_products();
}

/// Copies tiles of keys; of the second warpgroup. Eight lanes take 128 bytes of a key at once.
class KeyLoader {
 public:
  __device__ KeyLoader(const Call& x, const Part& part)
      : latents_(x.latents),
        table_(x.segments.block_tables + part.segment * x.segments.table_stride),
        page_size_(x.page_size),
        begin_(part.begin),
        end_(part.end) {
    look_up(0);
  }

  /// Begins the copies of the tile that was looked up last, and looks up the next one.
  __device__ void begin_copies(int tile, unsigned char* to) {
    const unsigned base = shared_address(to);
    const int chunk = thread() % 8;
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) {
      const int row = thread() / 8 + i * (kWarpgroup / 8);
      const bf16* const from = latents_ + std::int64_t{slots_[i]} * kLatentKeyDim + chunk * 8;
#pragma unroll
      for (int slab = 0; slab < kKeySlabs; ++slab) {
        copy_chunk(base + slab * kSlabBytes + swizzled(row, chunk), from + slab * kSlabColumns);
      }
    }
    end_copies();
    look_up(tile + 1);
  }

 private:
  static constexpr int kRowsOfThread = kTileKeys * 8 / kWarpgroup;

  __device__ static int thread() {
    return static_cast<int>(threadIdx.x) % kWarpgroup;
  }

  /// Behind the last key its own slot is read: what lies there is finite, and does not count.
  __device__ void look_up(int tile) {
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) {
      const int key =
          min(begin_ + tile * kTileKeys + thread() / 8 + i * (kWarpgroup / 8), end_ - 1);
      slots_[i] = __ldg(table_ + key / page_size_) * page_size_ + key % page_size_;
    }
  }

  const bf16* latents_;
  const std::int32_t* table_;
  int page_size_;
  int begin_;
  int end_;
  int slots_[kRowsOfThread];
};

/// Sums of shares times half of the values, for rows g and g + 8 of each warp.
struct HalfSums {
  float values[2][64] = {};

  __device__ __forceinline__ void multiply_by(float low, float high) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < 64; ++i) {
        values[half][i] *= i % 4 < 2 ? low : high;
      }
    }
  }

  /// Begins += shares times the left (0) or right (1) half of the keys' first dims.
  __device__ __forceinline__ void begin_adding(unsigned shares, unsigned keys, int half) {
#pragma unroll
    for (int part = 0; part < 2; ++part) {
      const unsigned slabs = keys + (4 * half + 2 * part) * kSlabBytes;
#pragma unroll
      for (int step = 0; step < kTileKeys / 16; ++step) {
        multiply_add(values[part],
                     row_major_operand(shares + step * 32),
                     column_major_operand(slabs + step * 2 * kAtomBytes, kSlabBytes));
      }
    }
    end_products();
  }

  /// Before and behind products.
  __device__ __forceinline__ void pin_all() {
    pin(values[0]);
    pin(values[1]);
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
      const std::int64_t place =
          (std::int64_t{part.split} * x.segments.count + part.segment) * x.heads + part.first_head +
          head;
      bf16* const row = x.result + part.row * x.result_token_stride +
                        (part.first_head + head) * x.result_head_stride;
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        const int dim = half * kHalfDim + i / 16 * 128 + i % 16 * 8 + lane % 4 * 2;
        const float* const pair = values[i / 16] + i % 16 * 4 + 2 * of_pair;
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

/// The running softmax of rows g and g + 8 of a warp; of the first warpgroup.
struct RunningShares {
  float largest[2] = {-kInfinity, -kInfinity};
  float total[2] = {0, 0};  // of this lane's keys

  /// Scores -> shares relative to the largest score so far. `factors`: of what was summed before.
  __device__ __forceinline__ void update(float (&scores)[32],
                                         float scale_log2,
                                         int keys,
                                         float (&factors)[2]) {
    const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int of_pair = 0; of_pair < 2; ++of_pair) {
      float best = largest[of_pair];
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        float& score = scores[i / 2 * 4 + 2 * of_pair + i % 2];
        score = i / 2 * 8 + 2 * t + i % 2 < keys ? score * scale_log2 : -kInfinity;
        best = fmaxf(best, score);
      }
      best = fmaxf(best, __shfl_xor_sync(kAllLanes, best, 1));
      best = fmaxf(best, __shfl_xor_sync(kAllLanes, best, 2));  // finite: the first key counts
      factors[of_pair] = exp2f(largest[of_pair] - best);
      largest[of_pair] = best;
      total[of_pair] *= factors[of_pair];
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        float& score = scores[i / 2 * 4 + 2 * of_pair + i % 2];
        score = exp2f(score - best);
        total[of_pair] += score;
      }
    }
  }

  /// The shares in bfloat16, as the rows of an operand.
  __device__ __forceinline__ static void store(const float (&shares)[32], unsigned char* to) {
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
    for (int of_pair = 0; of_pair < 2; ++of_pair) {
      const int row = warp * 16 + lane / 4 + 8 * of_pair;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        *reinterpret_cast<__nv_bfloat162*>(to + swizzled(row, j) + lane % 4 * 4) =
            __floats2bfloat162_rn(shares[4 * j + 2 * of_pair], shares[4 * j + 2 * of_pair + 1]);
      }
    }
  }

  /// Over the four lanes of a row.
  __device__ float all(int of_pair) const {
    float sum = total[of_pair];
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    return sum + __shfl_xor_sync(kAllLanes, sum, 2);
  }
};

}  // namespace dovetail::gpu::latent
