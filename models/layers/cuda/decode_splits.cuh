// How decode attention cuts the keys of a segment into parts, and joins what they give.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

#include "models/layers/cuda/bf16.cuh"

namespace dovetail::gpu {

/// Of DecodeSplit::length.
inline constexpr int kMinSplitKeys = 256;
inline constexpr int kMaxSplits = 32;

/// Keys of a split, whole tiles.
__device__ __forceinline__ int split_keys(int length, int splits, bool by_length, int tile_keys) {
  const int parts = by_length ? kMaxSplits : splits;
  const int even = ((length + parts - 1) / parts + tile_keys - 1) / tile_keys * tile_keys;
  return by_length ? max(even, kMinSplitKeys) : even;
}

/// What a sum of shares times values is multiplied by. The one way to a result: a row has the same
/// bits whether its keys alone, or others' of the batch too, are in one split.
__device__ __forceinline__ float factor_of(float total) {
  return 1 / total;
}

struct JoinSplitsCall {
  bf16* result = nullptr;  ///< `dim` neighbours for each token and head
  std::int64_t token_stride = 0;
  std::int64_t head_stride = 0;
  const float* partial = nullptr;  ///< [splits, segments, heads, dim]: sums of shares times values
  const float2* partial_stats = nullptr;       ///< [splits, segments, heads]: largest score (in
                                               ///< powers of 2; -infinity = no keys), sum of shares
  const std::int32_t* query_starts = nullptr;  ///< [segments + 1]
  std::int64_t segments = 0;
  int heads = 0;
  int dim = 0;
  int splits = 0;
};

/// result = the sums of all splits times factor_of the sums of all shares, rounded once, for the
/// first row of each segment that is not empty. Enqueues; RunError where the launch fails.
void launch_join_splits(const JoinSplitsCall& call, cudaStream_t stream);

}  // namespace dovetail::gpu
