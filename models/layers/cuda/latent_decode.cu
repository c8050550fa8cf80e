// Attention of one query a segment over paged latents (multi-head latent attention, absorbed:
// DeepSeek-V2, arXiv:2405.04434, section 2.1). All heads read the same key, whose first dims are
// the value as well, so a block takes 64 heads of a segment and a part (split) of the keys, and
// keeps its tiles of 64 keys in shared memory for both products.
//
// Three warpgroups: one copies keys ahead; two take turns in multiplying a tile's keys with the
// queries and turning scores into shares, and each sums its half of the values with the shares of
// all tiles. So the tensor cores have something to do beside a softmax. (Turns as in FlashMLA,
// github.com/deepseek-ai/FlashMLA.)
#include "models/layers/cuda/latent_decode.cuh"

#include <algorithm>

#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"
#include "models/layers/cuda/decode_splits.cuh"
#include "models/layers/cuda/latent_consumer.cuh"

namespace dovetail::gpu {
using namespace latent;  // NOLINT(google-build-using-namespace)

namespace {

__global__ void __launch_bounds__(kThreads, 1) attend_to_latents(const __grid_constant__ Call x) {
  extern __shared__ unsigned char memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  Part part = {};
  part.first_head = static_cast<int>(blockIdx.x) * kHeads;
  part.num_heads = min(kHeads, x.heads - part.first_head);
  part.segment = static_cast<int>(blockIdx.y);
  part.split = static_cast<int>(blockIdx.z);
  if (part.split == 0) {
    zero_padding_row(x, part.segment, part.first_head, part.num_heads);
  }
  if (part.segment >= x.segments.count) {
    return;
  }
  part.row = x.segments.query_starts[part.segment];
  if (x.segments.query_starts[part.segment + 1] == part.row) {
    return;  // an empty segment
  }
  const int length = x.segments.key_lengths[part.segment];
  const int share = split_keys(length, x.splits, x.split_by_length, kTileKeys);
  part.begin = part.split * share;
  part.end = min(length, part.begin + share);
  if (part.begin >= part.end) {  // the split has no keys
    const std::int64_t place =
        (std::int64_t{part.split} * x.segments.count + part.segment) * x.heads + part.first_head;
    for (int i = static_cast<int>(threadIdx.x); i < part.num_heads; i += kThreads) {
      x.partial_stats[place + i] = {-kInfinity, 0};
    }
    return;
  }
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      for (int half = 0; half < 2; ++half) {
        shared.keys_there[stage][half].init(kWarpgroup);
        shared.keys_used[stage][half].init(kWarpgroup);
      }
      shared.shares_there[stage].init(kWarpgroup);
    }
  }
  load_queries(x, part, shared.queries);
  __syncthreads();
  const int warpgroup = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
  if (warpgroup == 2) {
    give_registers<kCopyRegisters>();
    copy_ahead(x, part, shared);
  } else {
    take_registers<kProductRegisters>();
    Consumer(x, part, shared, warpgroup).run();
  }
}

std::int64_t head_blocks(std::int64_t heads) {
  return (heads + kHeads - 1) / kHeads;
}

/// Elements of the sums of all splits.
std::int64_t partial_sums(const LatentDecodeArguments& x) {
  return x.splits * x.segments.count * x.heads * kLatentValueDim;
}

void check(const LatentDecodeArguments& x) {
  DOVETAIL_CHECK(x.heads >= 1 && x.page_size >= 1, "latent decode: sizes");
  DOVETAIL_CHECK(x.splits >= 1 && (x.splits == 1 || x.partial != nullptr), "latent decode: splits");
  DOVETAIL_CHECK(std::max(x.segments.count, x.tokens) <= 65535, "latent decode: segments");
  for (const std::int64_t stride : {x.queries.latent_token_stride,
                                    x.queries.latent_head_stride,
                                    x.queries.rope_token_stride,
                                    x.queries.rope_head_stride,
                                    x.result_token_stride,
                                    x.result_head_stride}) {
    DOVETAIL_CHECK(stride % 8 == 0, "latent decode: alignment");
  }
}

void allow_shared_memory() {
  static const cudaError_t done = cudaFuncSetAttribute(attend_to_latents,
                                                       cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                       static_cast<int>(sizeof(Shared)));
  check_cuda(done, "shared memory of attend_to_latents");
}

}  // namespace

std::int64_t latent_decode_partial_floats(const LatentDecodeArguments& arguments) {
  return partial_sums(arguments) +
         2 * arguments.splits * arguments.segments.count * arguments.heads;
}

int latent_decode_splits(std::int64_t segments,
                         std::int64_t heads,
                         std::int64_t max_key_length,
                         int num_sms) {
  constexpr std::int64_t max_splits = 32;
  constexpr std::int64_t start_tiles = 6;  // what a block costs beside its tiles, in tiles
  const std::int64_t blocks = std::max<std::int64_t>(segments * head_blocks(heads), 1);
  const std::int64_t tiles =
      std::max<std::int64_t>((max_key_length + kTileKeys - 1) / kTileKeys, 1);
  int best = 1;
  std::int64_t least = INT64_MAX;
  for (std::int64_t splits = 1; splits <= std::min(max_splits, tiles); ++splits) {
    const std::int64_t waves = (blocks * splits + num_sms - 1) / num_sms;
    const std::int64_t cost = waves * ((tiles + splits - 1) / splits + start_tiles);
    if (cost < least) {
      least = cost;
      best = static_cast<int>(splits);
    }
  }
  return best;
}

void launch_latent_decode(const LatentDecodeArguments& arguments, cudaStream_t stream) {
  check(arguments);
  const std::int64_t units = std::max(arguments.segments.count, arguments.tokens);
  if (units == 0) {
    return;
  }
  allow_shared_memory();
  constexpr float log2_of_e = 1.4426950408889634F;
  const Call x = {
      .queries = arguments.queries,
      .result = static_cast<bf16*>(arguments.result),
      .result_token_stride = arguments.result_token_stride,
      .result_head_stride = arguments.result_head_stride,
      .latents = static_cast<const bf16*>(arguments.latents),
      .segments = arguments.segments,
      .partial = arguments.partial,
      .partial_stats = arguments.splits == 1
                           ? nullptr
                           : reinterpret_cast<float2*>(arguments.partial + partial_sums(arguments)),
      .tokens = arguments.tokens,
      .heads = static_cast<int>(arguments.heads),
      .page_size = static_cast<int>(arguments.page_size),
      .splits = arguments.splits,
      .split_by_length = arguments.split_by == DecodeSplit::length,
      .scale_log2 = arguments.scale * log2_of_e};
  const dim3 grid(static_cast<unsigned>(head_blocks(arguments.heads)),
                  static_cast<unsigned>(units),
                  static_cast<unsigned>(x.splits));
  attend_to_latents<<<grid, kThreads, sizeof(Shared), stream>>>(x);
  check_cuda(cudaGetLastError(), "launch of attend_to_latents");
  if (x.splits > 1 && arguments.segments.count > 0) {
    launch_join_splits({.result = x.result,
                        .token_stride = x.result_token_stride,
                        .head_stride = x.result_head_stride,
                        .partial = x.partial,
                        .partial_stats = x.partial_stats,
                        .query_starts = x.segments.query_starts,
                        .segments = x.segments.count,
                        .heads = x.heads,
                        .dim = kLatentValueDim,
                        .splits = x.splits},
                       stream);
  }
}

}  // namespace dovetail::gpu
