// What the blocks of decode over latents (latent_decode.cu) are made of: their shared memory, and
// the copies of queries and keys.
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
inline constexpr int kConsumers = 2 * kWarpgroup;
inline constexpr int kThreads = kConsumers + kWarpgroup;
inline constexpr int kCopyRegisters = 40;
inline constexpr int kProductRegisters = 232;
inline constexpr int kHalfDim = kLatentValueDim / 2;  // of the values: a warpgroup's

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
  unsigned char shares[kSlabBytes];      // of one tile, for the warpgroup that did not compute them
  float factors[kStages][kHeads];        // what sums so far are multiplied by
  float largest[kStages][kHeads];        // score so far
  float totals[2][kHeads];               // of each warpgroup's shares
  SharedBarrier keys_there[kStages][2];  // left slabs; right slabs and the rest
  SharedBarrier keys_used[kStages][2];   // by each warpgroup
  SharedBarrier shares_there[kStages];
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

/// Copies tiles of keys. Eight lanes take 128 bytes of a key at once.
class KeyLoader {
 public:
  __device__ KeyLoader(const Call& x, const Part& part)
      : latents_(x.latents),
        table_(x.segments.block_tables + part.segment * x.segments.table_stride),
        page_size_(x.page_size),
        begin_(part.begin),
        end_(part.end) {}

  /// Behind the last key its own slot is read: what lies there is finite, and does not count.
  __device__ __forceinline__ void look_up(int tile) {
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) {
      const int key =
          min(begin_ + tile * kTileKeys + thread() / 8 + i * (kWarpgroup / 8), end_ - 1);
      slots_[i] = __ldg(table_ + key / page_size_) * page_size_ + key % page_size_;
    }
  }

  /// Begins the copies of slabs [kFirst, kLast) of the tile that was looked up last.
  template <int kFirst, int kLast>
  __device__ __forceinline__ void begin_copies(unsigned char* to) const {
    const unsigned base = shared_address(to);
    const int chunk = thread() % 8;
#pragma unroll
    for (int i = 0; i < kRowsOfThread; ++i) {
      const int row = thread() / 8 + i * (kWarpgroup / 8);
      const bf16* const from = latents_ + std::int64_t{slots_[i]} * kLatentKeyDim + chunk * 8;
#pragma unroll
      for (int slab = kFirst; slab < kLast; ++slab) {
        copy_chunk(base + slab * kSlabBytes + swizzled(row, chunk), from + slab * kSlabColumns);
      }
    }
  }

 private:
  static constexpr int kRowsOfThread = kTileKeys * 8 / kWarpgroup;

  __device__ static int thread() {
    return static_cast<int>(threadIdx.x) % kWarpgroup;
  }

  const bf16* latents_;
  const std::int32_t* table_;
  int page_size_;
  int begin_;
  int end_;
  int slots_[kRowsOfThread];
};

/// Copies the keys of all tiles ahead; of one warpgroup.
__device__ __forceinline__ void copy_ahead(const Call& x, const Part& part, Shared& shared) {
  KeyLoader loader(x, part);
  loader.look_up(0);
  const int tiles = part.num_tiles();
  for (int tile = 0; tile < tiles; ++tile) {
    const int stage = tile % kStages;
    const int earlier = tile / kStages - 1;
    if (earlier >= 0) {
      shared.keys_used[stage][0].wait(earlier);
    }
    loader.begin_copies<0, kValueSlabs / 2>(shared.keys[stage]);
    shared.keys_there[stage][0].arrive_behind_copies();
    if (earlier >= 0) {
      shared.keys_used[stage][1].wait(earlier);
    }
    loader.begin_copies<kValueSlabs / 2, kKeySlabs>(shared.keys[stage]);
    shared.keys_there[stage][1].arrive_behind_copies();
    loader.look_up(tile + 1);
  }
  await_copies<0>();
}

}  // namespace dovetail::gpu::latent
