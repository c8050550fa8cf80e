// What the blocks of prefill attention (prefill_attention.cu) are made of: their shared memory, the
// copies of keys and values, and the products of a warpgroup.
#pragma once

#include <cstdint>

#include "models/layers/cuda/kernels.hpp"
#include "models/layers/cuda/wgmma.cuh"

namespace dovetail::gpu::prefill {

inline constexpr int kQueries = 128;  // of a block
inline constexpr int kRows = 64;      // of a warpgroup
inline constexpr int kTileKeys = 128;
inline constexpr int kStages = 2;
inline constexpr int kValueSlabs = static_cast<int>(kPrefillValueDim) / kSlabColumns;
inline constexpr int kConsumers = 2 * kWarpgroup;
inline constexpr int kThreads = kWarpgroup + kConsumers;
inline constexpr int kSlabBytes = kTileKeys * kSlabRowBytes;
inline constexpr int kCopyRegisters = 40;
inline constexpr int kProductRegisters = 232;

static_assert(kQueries == kTileKeys, "queries, keys and values have slabs of one size");

struct Call {
  AttentionRows queries;
  AttentionRows keys;
  AttentionRows shared_keys;
  AttentionRows values;
  bf16* result;
  const std::int32_t* query_starts;
  const std::int32_t* key_starts;
  int heads;
  int group;  // query heads of a kv head
  float scale_log2;
};

template <int kOwnSlabs, int kSharedSlabs>
struct alignas(kAtomBytes) Shared {
  static constexpr int kKeySlabs = kOwnSlabs + kSharedSlabs;

  unsigned char queries[kKeySlabs * kSlabBytes];
  unsigned char keys[kStages][kKeySlabs * kSlabBytes];
  unsigned char values[kStages][kValueSlabs * kSlabBytes];
  SharedBarrier queries_there;
  SharedBarrier keys_there[kStages];
  SharedBarrier values_there[kStages];
  SharedBarrier keys_used[kStages];
  SharedBarrier values_used[kStages];
};

/// What a block works on.
struct Part {
  int head;
  int first_query;  // within the segment
  int num_queries;
  int first_row;  // of the segment, in queries and result
  int first_key;  // of the segment, in keys and values
  int num_keys;   // that any of the queries sees
  int context;    // keys before the segment's first query

  /// The same in all lanes, and the compiler sees it: products need that.
  __device__ int num_tiles() const {
    return __shfl_sync(kAllLanes, (num_keys + kTileKeys - 1) / kTileKeys, 0);
  }
};

/// Rows [first, first + 128) of which those from `last` on repeat row `last`: what they hold is
/// finite, and does not count.
template <int kSlabs>
__device__ __forceinline__ void begin_copies(const AttentionRows& rows,
                                             int head,
                                             std::int64_t base,
                                             int first,
                                             int last,
                                             unsigned char* to) {
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup;
  const unsigned address = shared_address(to);
  const int chunk = thread % 8;
  const bf16* const of_head = static_cast<const bf16*>(rows.data) + head * rows.head_stride;
#pragma unroll 4
  for (int row = thread / 8; row < kTileKeys; row += kWarpgroup / 8) {
    const bf16* const from =
        of_head + (base + min(first + row, last)) * rows.token_stride + chunk * 8;
#pragma unroll
    for (int slab = 0; slab < kSlabs; ++slab) {
      copy_chunk(address + slab * kSlabBytes + swizzled(row, chunk), from + slab * kSlabColumns);
    }
  }
}

template <int kOwnSlabs, int kSharedSlabs>
__device__ __forceinline__ void copy_ahead(const Call& x,
                                           const Part& part,
                                           Shared<kOwnSlabs, kSharedSlabs>& shared) {
  begin_copies<kOwnSlabs + kSharedSlabs>(x.queries,
                                         part.head,
                                         part.first_row,
                                         part.first_query,
                                         part.first_query + part.num_queries - 1,
                                         shared.queries);
  shared.queries_there.arrive_behind_copies();
  const int kv_head = part.head / x.group;
  const int last = part.num_keys - 1;
  const int tiles = part.num_tiles();
  for (int tile = 0; tile < tiles; ++tile) {
    const int stage = tile % kStages;
    const int first = tile * kTileKeys;
    if (tile >= kStages) {
      shared.keys_used[stage].wait(tile / kStages - 1);
    }
    begin_copies<kOwnSlabs>(x.keys, kv_head, part.first_key, first, last, shared.keys[stage]);
    if constexpr (kSharedSlabs > 0) {
      begin_copies<kSharedSlabs>(x.shared_keys,
                                 /*head=*/0,
                                 part.first_key,
                                 first,
                                 last,
                                 shared.keys[stage] + kOwnSlabs * kSlabBytes);
    }
    shared.keys_there[stage].arrive_behind_copies();
    if (tile >= kStages) {
      shared.values_used[stage].wait(tile / kStages - 1);
    }
    begin_copies<kValueSlabs>(x.values, kv_head, part.first_key, first, last, shared.values[stage]);
    shared.values_there[stage].arrive_behind_copies();
  }
  await_copies<0>();
}

/// Begins sums += shares values.
__device__ __forceinline__ void begin_sums(float (&sums)[64],
                                           const unsigned (&shares)[8][4],
                                           unsigned values) {
#pragma unroll
  for (int step = 0; step < kTileKeys / 16; ++step) {
    multiply_add(
        sums, shares[step], column_major_operand(values, step * 2 * kAtomBytes, kSlabBytes));
  }
  end_products();
}

}  // namespace dovetail::gpu::prefill
