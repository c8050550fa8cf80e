// Launches of decode attention: a part of a segment's keys a block, then the parts are joined.
#include "models/layers/cuda/decode_attention.cuh"

#include <algorithm>

#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"
#include "models/layers/cuda/kernels.hpp"

namespace dovetail::gpu {
using namespace decode;  // NOLINT(google-build-using-namespace)

namespace {

/// Cache slot of a segment's key.
__device__ __forceinline__ int slot_of(const std::int32_t* table, int key, int page_size) {
  return __ldg(table + key / page_size) * page_size + key % page_size;
}

template <int kBlocks>
__global__ void __launch_bounds__(kThreads, kBlocks <= 4 ? 4 : 2) attend(const DecodeCall x) {
  __shared__ BlockAttention<kBlocks> of_block;
  const int segment = static_cast<int>(blockIdx.x);
  const int kv_head = static_cast<int>(blockIdx.y) / x.head_tiles;
  const int in_group = static_cast<int>(blockIdx.y) % x.head_tiles * kHeads;
  const int first_head = kv_head * x.group + in_group;
  const int num_heads = min(kHeads, x.group - in_group);
  const int split = static_cast<int>(blockIdx.z);
  if (split == 0) {
    zero_padding_row(x, segment, first_head, num_heads);
  }
  if (segment >= x.segments.count) {
    return;
  }
  const std::int64_t row = x.segments.query_starts[segment];
  if (x.segments.query_starts[segment + 1] == row) {
    return;  // an empty segment
  }
  const int length = x.segments.key_lengths[segment];
  const int share = split_keys(length, x.splits, x.split_by_length, kTileKeys);
  const int begin = split * share;  // may lie behind the last key
  const int end = min(length, begin + share);

  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const bf16* const head = x.queries + row * x.query_stride + (first_head + lane / 4) * x.head_dim;
  uint4 query[kBlocks];
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
    query[b] =
        lane / 4 < num_heads ? load_chunk(head, 4 * b + lane % 4, x.head_dim) : uint4{0, 0, 0, 0};
  }
  WarpAttention<kBlocks> of_warp;
  const std::int32_t* const table = x.segments.block_tables + segment * x.segments.table_stride;
  int base = begin + warp * kTileKeys;
  if (base < end) {
    // The page of the next tile is looked up while this tile is computed.
    int slot = slot_of(table, min(base + lane % kTileKeys, end - 1), x.page_size);
    for (; base < end; base += kWarps * kTileKeys) {
      const int next = base + kWarps * kTileKeys + lane % kTileKeys;
      const int next_slot = slot_of(table, min(next, end - 1), x.page_size);
      of_warp.add_tile(x, query, std::int64_t{kv_head} * x.head_dim, slot, base, end);
      slot = next_slot;
    }
  }
  of_block.store(of_warp);
  __syncthreads();

  for (int i = static_cast<int>(threadIdx.x); i < num_heads * x.head_dim; i += kThreads) {
    const int head_of_tile = i / x.head_dim;
    const int dim = i % x.head_dim;
    const float3 joined = of_block.joined(head_of_tile, dim);
    if (x.splits == 1) {
      x.result[(row * x.heads + first_head) * x.head_dim + i] =
          __float2bfloat16_rn(joined.z * factor_of(joined.y));
      continue;
    }
    const std::int64_t place =
        (split * x.segments.count + segment) * x.heads + first_head + head_of_tile;
    x.partial[place * x.head_dim + dim] = joined.z;
    if (dim == 0) {
      x.partial_stats[place] = {joined.x, joined.y};
    }
  }
}

std::int64_t head_tiles_of(std::int64_t group) {
  return (group + kHeads - 1) / kHeads;
}

/// Elements of the sums of all splits.
std::int64_t partial_sums(const DecodeArguments& x) {
  return x.splits * x.segments.count * x.heads * x.cache.head_dim;
}

void check(const DecodeArguments& x) {
  DOVETAIL_CHECK(x.cache.head_dim % kVector == 0 && x.cache.head_dim <= 256, "decode: head_dim");
  DOVETAIL_CHECK(x.heads % x.cache.kv_heads == 0, "decode: heads of a kv head");
  DOVETAIL_CHECK(x.query_stride % kVector == 0, "decode: alignment of the queries");
  DOVETAIL_CHECK(x.splits >= 1 && (x.splits == 1 || x.segments.count == 0 || x.partial != nullptr),
                 "decode: splits");
  DOVETAIL_CHECK(x.cache.kv_heads * head_tiles_of(x.heads / x.cache.kv_heads) <= 65535,
                 "decode: number of heads");
}

}  // namespace

std::int64_t decode_partial_floats(const DecodeArguments& arguments) {
  return partial_sums(arguments) +
         2 * arguments.splits * arguments.segments.count * arguments.heads;
}

int decode_splits(std::int64_t segments,
                  std::int64_t kv_heads,
                  std::int64_t group,
                  std::int64_t max_key_length,
                  int num_sms) {
  constexpr std::int64_t blocks_per_sm = 4;
  constexpr std::int64_t min_keys = 128;  // of a split: two tiles a warp
  constexpr std::int64_t max_splits = 32;
  const std::int64_t blocks = std::max<std::int64_t>(segments * kv_heads * head_tiles_of(group), 1);
  const std::int64_t most =
      std::clamp((max_key_length + min_keys - 1) / min_keys, std::int64_t{1}, max_splits);
  return static_cast<int>(std::clamp(blocks_per_sm * num_sms / blocks, std::int64_t{1}, most));
}

int decode_splits_by_length(std::int64_t max_key_length) {
  const std::int64_t splits = (max_key_length + kMinSplitKeys - 1) / kMinSplitKeys;
  return static_cast<int>(std::clamp<std::int64_t>(splits, 1, kMaxSplits));
}

void launch_decode_attention(const DecodeArguments& arguments, cudaStream_t stream) {
  check(arguments);
  const std::int64_t units = std::max(arguments.segments.count, arguments.tokens);
  if (units == 0) {
    return;
  }
  const std::int64_t group = arguments.heads / arguments.cache.kv_heads;
  constexpr float log2_of_e = 1.4426950408889634F;
  const DecodeCall x = {
      .queries = static_cast<const bf16*>(arguments.queries),
      .query_stride = arguments.query_stride,
      .result = static_cast<bf16*>(arguments.result),
      .keys = static_cast<const bf16*>(arguments.cache.keys),
      .values = static_cast<const bf16*>(arguments.cache.values),
      .segments = arguments.segments,
      .partial = arguments.partial,
      .partial_stats = arguments.splits == 1
                           ? nullptr
                           : reinterpret_cast<float2*>(arguments.partial + partial_sums(arguments)),
      .tokens = arguments.tokens,
      .heads = static_cast<int>(arguments.heads),
      .kv_heads = static_cast<int>(arguments.cache.kv_heads),
      .group = static_cast<int>(group),
      .head_tiles = static_cast<int>(head_tiles_of(group)),
      .head_dim = static_cast<int>(arguments.cache.head_dim),
      .page_size = static_cast<int>(arguments.cache.page_size),
      .splits = arguments.splits,
      .split_by_length = arguments.split_by == DecodeSplit::length,
      .scale_log2 = arguments.scale * log2_of_e};
  const dim3 grid(static_cast<unsigned>(units),
                  static_cast<unsigned>(x.kv_heads * x.head_tiles),
                  static_cast<unsigned>(x.splits));
  if (x.head_dim <= 64) {
    attend<2><<<grid, kThreads, 0, stream>>>(x);
  } else if (x.head_dim <= 128) {
    attend<4><<<grid, kThreads, 0, stream>>>(x);
  } else {
    attend<8><<<grid, kThreads, 0, stream>>>(x);
  }
  check_cuda(cudaGetLastError(), "launch of attend");
  if (x.splits > 1 && arguments.segments.count > 0) {
    launch_join_splits({.result = x.result,
                        .token_stride = std::int64_t{x.heads} * x.head_dim,
                        .head_stride = x.head_dim,
                        .partial = x.partial,
                        .partial_stats = x.partial_stats,
                        .query_starts = x.segments.query_starts,
                        .segments = x.segments.count,
                        .heads = x.heads,
                        .dim = x.head_dim,
                        .splits = x.splits},
                       stream);
  }
}

}  // namespace dovetail::gpu
