// What the blocks of decode over latents (latent_decode.cu) are made of: their shared memory, and
// their queries.
#pragma once

#include <cstdint>

#include <cuda.h>

#include "models/layers/cuda/kernels.hpp"
#include "models/layers/cuda/wgmma.cuh"

namespace dovetail::gpu::latent {

inline constexpr int kHeads = 64;  // of a block
inline constexpr int kTileKeys = 64;
inline constexpr int kSlabBytes = kTileKeys * kSlabRowBytes;
inline constexpr int kValueSlabs = kLatentValueDim / kSlabColumns;
inline constexpr int kHalfDim = kLatentValueDim / 2;  // of the values: a warpgroup's
inline constexpr int kHalfSlabs = kValueSlabs / 2;
inline constexpr int kHalfBytes = kHalfSlabs * kSlabBytes;
inline constexpr int kSteps = kSlabColumns / 16;
inline constexpr int kConsumers = 2 * kWarpgroup;
inline constexpr int kThreads = kConsumers + kWarpgroup;
inline constexpr int kCopyRegisters = 24;
inline constexpr int kProductRegisters = 240;
/// Halves of tiles that shared memory holds. To have room for five, the queries' last slab of each
/// half, and what is times the rest of a key, are held in registers.
inline constexpr int kSlots = 5;
inline constexpr int kSharedHalfSlabs = kHalfSlabs - 1;

static_assert(kHeads == kTileKeys, "queries, keys and shares have slabs of one size");
static_assert(kLatentKeyDim == kLatentValueDim + kSlabColumns, "the rest of a key is a slab");

/// How keys come to shared memory.
enum class Copies : std::uint8_t {
  rows,        // by a warpgroup's instructions, key by key: pages of any size
  boxes,       // by the copy engine, box by box of a page
  twin_boxes,  // the same, each box for both blocks of a cluster, which read the same keys
};

/// The values of a tile come in two halves; first comes that which the warpgroup sums that computes
/// the tile's scores, warpgroup `tile % 2`. Halves of all tiles count on.
__device__ __forceinline__ int half_of_tile(int tile, int warpgroup) {
  return 2 * tile + (tile + warpgroup) % 2;
}

/// The warpgroup that sums a half: 0 for the left dims.
__device__ __forceinline__ int summing_warpgroup(int half) {
  return (half + half / 2) % 2;
}

struct Call {
  CUtensorMap boxes;  // of the latents; not for Copies::rows
  int box_keys;       // rows of a box; a tile has kTileKeys / box_keys boxes
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

/// What a block works on.
struct Part {
  int segment;
  int split;
  int first_head;
  int num_heads;
  int padding_row;  // that this block clears, if there is such a row
  int row;          // of the query; < 0 = none
  int begin;        // first key
  int end;

  __device__ int num_keys() const { return end - begin; }

  /// The same in all lanes, and the compiler sees it: products need that.
  __device__ int num_tiles() const {
    return __shfl_sync(kAllLanes, (num_keys() + kTileKeys - 1) / kTileKeys, 0);
  }

  /// Of the first head in partial_stats.
  __device__ std::int64_t place(const Call& x) const {
    return (std::int64_t{split} * x.segments.count + segment) * x.heads + first_head;
  }
};

struct alignas(kAtomBytes) Shared {
  unsigned char queries[2][kSharedHalfSlabs * kSlabBytes];  // of each half
  unsigned char values[kSlots][kHalfBytes];                 // half h in slot h % kSlots
  unsigned char rest[kSlabBytes];                           // of a tile's keys
  unsigned char shares[kSlabBytes];                         // of a tile, for the other warpgroup
  float largest[2][kHeads];  // what shares of even and odd tiles are relative to
  float totals[2][kHeads];   // of each warpgroup's shares
  SharedBarrier values_there[kSlots][kHalfSlabs];
  SharedBarrier values_used[kSlots];
  SharedBarrier rest_there[2];  // of even and odd tiles
  SharedBarrier rest_used;
  SharedBarrier shares_there[2];  // of even and odd tiles
  Part part;                      // for the end, so that it need not be held in registers
};

static_assert(sizeof(Shared) <= 227 * 1024);

/// Zeros for rows behind the segments.
__device__ inline void zero_padding_row(const Call& x, const Part& part) {
  constexpr int vectors = kLatentValueDim / 8;
  for (int i = static_cast<int>(threadIdx.x); i < part.num_heads * vectors; i += kThreads) {
    store_vector<8>(x.result + part.padding_row * x.result_token_stride +
                        (part.first_head + i / vectors) * x.result_head_stride + i % vectors * 8,
                    Bf16Vector<8>{});
  }
}

/// Where a query's 8 dims from chunk * 8 lie.
__device__ __forceinline__ auto query_chunk(const Call& x, const Part& part, int head, int chunk)
    -> const bf16* {
  const std::int64_t of_head = part.first_head + head;
  return chunk < kValueSlabs * 8
             ? static_cast<const bf16*>(x.queries.latent) +
                   part.row * x.queries.latent_token_stride +
                   of_head * x.queries.latent_head_stride + chunk * 8
             : static_cast<const bf16*>(x.queries.rope) + part.row * x.queries.rope_token_stride +
                   of_head * x.queries.rope_head_stride + (chunk - kValueSlabs * 8) * 8;
}

/// The queries that lie in shared memory; by the warpgroups that multiply. Heads that are not there
/// become zeros.
__device__ inline void load_queries(const Call& x, const Part& part, Shared& shared) {
  constexpr int chunks_of_half = kSharedHalfSlabs * 8;
#pragma unroll 8
  for (int i = static_cast<int>(threadIdx.x); i < kHeads * 2 * chunks_of_half; i += kConsumers) {
    const int head = i / (2 * chunks_of_half);
    const int half = i / chunks_of_half % 2;
    const int chunk = i % chunks_of_half;
    uint4 word = {0, 0, 0, 0};
    if (head < part.num_heads) {
      word = __ldg(reinterpret_cast<const uint4*>(
          query_chunk(x, part, head, half * kHalfSlabs * 8 + chunk)));
    }
    *reinterpret_cast<uint4*>(shared.queries[half] + chunk / 8 * kSlabBytes +
                              swizzled(head, chunk % 8)) = word;
  }
  publish_to_products();
}

/// A slab of the queries as an operand in registers.
struct QuerySlab {
  unsigned values[kSteps][4];

  __device__ __forceinline__ void load(const Call& x, const Part& part, int slab) {
    const int warp = static_cast<int>(threadIdx.x) % kWarpgroup / kWarpSize;
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int head = warp * 16 + lane / 4 + 8 * (i % 2);
        const bf16* const from =
            query_chunk(x, part, head, slab * 8 + 2 * step + i / 2) + lane % 4 * 2;
        values[step][i] =
            head < part.num_heads ? __ldg(reinterpret_cast<const unsigned*>(from)) : 0;
      }
    }
  }
};

}  // namespace dovetail::gpu::latent
