// What the blocks of decode over latents (latent_decode.cu) are made of: their shared memory, the
// parts they work on, and queries.
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
/// the tile's scores: warpgroup 0 for a part's first tile, and then in turns. Tiles and halves
/// count on over the parts of a block, since barriers' phases do. This is the warpgroup that sums a
/// half of the part that begins with tile `first`: 0 for the left dims.
__device__ __forceinline__ int summing_warpgroup(int half, int first) {
  return (half + half / 2 - first) & 1;
}

struct Call {
  CUtensorMap boxes;           // of the latents; not for Copies::rows
  CUtensorMap latent_queries;  // a slab of a block's heads is a box; a token is a plane
  int box_keys;                // rows of a box of latents; a tile has kTileKeys / box_keys boxes
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

  /// One for each segment and split, segments in a row.
  __device__ int num_parts() const { return static_cast<int>(segments.count) * splits; }
};

/// What a block works on.
struct Part {
  int segment;
  int split;
  int first_head;
  int num_heads;
  int row;    // of the query; < 0 = none
  int begin;  // first key
  int end;

  __device__ int num_keys() const { return end - begin; }

  __device__ int num_tiles() const { return (num_keys() + kTileKeys - 1) / kTileKeys; }

  /// Of the first head in partial_stats.
  __device__ std::int64_t place(const Call& x) const {
    return (std::int64_t{split} * x.segments.count + segment) * x.heads + first_head;
  }
};

/// What a block works on one after another.
struct PartQueue {
  static constexpr int kParts = 4;

  Part parts[kParts];
  SharedBarrier there[kParts];
  SharedBarrier used[kParts];  // by all threads but those of the scheduling warp

  /// The number-th part, once it is known; one without a query is behind the last.
  const __device__ __forceinline__ Part& await(int number) {
    there[number % kParts].wait(number / kParts);
    return parts[number % kParts];
  }

  __device__ __forceinline__ void leave(int number) { used[number % kParts].arrive(); }
};

/// Walkers are the clusters (or single blocks) over which parts are distributed, where those stay.
inline constexpr int kMaxWalkers = 144;

/// How the parts of a round are distributed.
struct Balance {
  int load[kMaxWalkers];              // of each walker, before the round
  std::uint16_t cost[kMaxWalkers];    // of the round's parts
  std::uint8_t by_cost[kMaxWalkers];  // the round's parts, the cheapest first
};

struct alignas(kAtomBytes) Shared {
  unsigned char queries[2][kSharedHalfSlabs * kSlabBytes];  // of each half
  unsigned char values[kSlots][kHalfBytes];                 // half h in slot h % kSlots
  unsigned char rest[kSlabBytes];                           // of a tile's keys
  unsigned char shares[kSlabBytes];                         // of a tile, for the other warpgroup
  float largest[2][kHeads];    // what shares of even and odd tiles are relative to
  float totals[2][2][kHeads];  // of even and odd parts: of each warpgroup's shares
  SharedBarrier values_there[kSlots][kHalfSlabs];
  SharedBarrier values_used[kSlots];
  SharedBarrier rest_there[2];  // of even and odd tiles
  SharedBarrier rest_used;
  SharedBarrier shares_there[2];  // of even and odd tiles
  SharedBarrier totals_there;     // of both warpgroups, of a part
  SharedBarrier queries_there;
  SharedBarrier queries_used;
  PartQueue parts;
  Balance balance;
};

static_assert(sizeof(Shared) <= 227 * 1024);

/// Where a slab of a head's query begins.
__device__ __forceinline__ auto query_slab(const Call& x, const Part& part, int head, int slab)
    -> const bf16* {
  const std::int64_t of_head = part.first_head + head;
  return slab < kValueSlabs
             ? static_cast<const bf16*>(x.queries.latent) +
                   part.row * x.queries.latent_token_stride +
                   of_head * x.queries.latent_head_stride + slab * kSlabColumns
             : static_cast<const bf16*>(x.queries.rope) + part.row * x.queries.rope_token_stride +
                   of_head * x.queries.rope_head_stride;
}

/// A slab of the queries as an operand in registers. Heads that are not there become zeros.
struct QuerySlab {
  unsigned values[kSteps][4];

  /// Begins, where the compiler would load right before the first use.
  __device__ __forceinline__ void load(const Call& x, const Part& part, int slab) {
    const int warp = static_cast<int>(threadIdx.x) % kWarpgroup / kWarpSize;
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int head = warp * 16 + lane / 4 + 8 * i;
      const bool exists = head < part.num_heads;
      const bf16* const from = query_slab(x, part, exists ? head : 0, slab) + lane % 4 * 2;
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          asm volatile(
              "{\n"
              ".reg .pred p;\n"
              "setp.ne.b32 p, %2, 0;\n"
              "mov.b32 %0, 0;\n"
              "@p ld.global.nc.b32 %0, [%1];\n"
              "}\n"
              : "=&r"(values[step][i + 2 * j])
              : "l"(from + step * 16 + j * 8), "r"(static_cast<int>(exists)));
        }
      }
    }
  }
};

}  // namespace dovetail::gpu::latent
