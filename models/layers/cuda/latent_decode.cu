// Attention of one query a segment over paged latents (multi-head latent attention, absorbed:
// DeepSeek-V2, arXiv:2405.04434, section 2.1). All heads read the same key, whose first dims are
// the value as well, so a block takes 64 heads of a segment and a part (split) of the keys, and
// keeps its tiles of 64 keys in shared memory for both products. Blocks stay and walk over parts:
// the next part's keys and queries come while the last results are stored.
//
// Three warpgroups: one copies keys ahead, and has a warp that says which part is next; two take
// turns in multiplying a tile's keys with the queries and turning scores into shares, and each sums
// its half of the values with the shares of all tiles. So the tensor cores have something to do
// beside a softmax. (Turns as in FlashMLA, github.com/deepseek-ai/FlashMLA.)
//
// A copy takes about as long as the products of a tile, and two tiles are all that shared memory
// holds: half tiles become free one by one, at once when their sums are done. The two blocks of 128
// heads read the same keys: they form a cluster, and each copies half of them for both.
#include "models/layers/cuda/latent_decode.cuh"

#include <algorithm>

#include <cudaTypedefs.h>

#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/driver_function.hpp"
#include "models/layers/cuda/decode_splits.cuh"
#include "models/layers/cuda/latent_consumer.cuh"

namespace dovetail::gpu {
using namespace latent;  // NOLINT(google-build-using-namespace)

namespace {

template <Copies kCopies>
__device__ void init_barriers(Shared& shared) {
  constexpr int warps = kWarpgroup / kWarpSize;
  constexpr int copies = kCopies == Copies::rows ? kWarpgroup : 1;
  constexpr int users = kCopies == Copies::twin_boxes ? kTwins * warps : warps;
  for (int slot = 0; slot < kSlots; ++slot) {
    for (SharedBarrier& there : shared.values_there[slot]) {
      there.init(copies);
    }
    shared.values_used[slot].init(users);
  }
  shared.rest_used.init(users);
  for (int parity = 0; parity < 2; ++parity) {
    shared.rest_there[parity].init(copies);
    shared.shares_there[parity].init(kWarpgroup);
  }
  shared.totals_there.init(kConsumers);
  shared.queries_there.init(1);
  shared.queries_used.init(kConsumers / kWarpSize);
  for (int part = 0; part < PartQueue::kParts; ++part) {
    shared.parts.there[part].init(1);
    shared.parts.used[part].init(kThreads - kWarpSize);
  }
  publish_barriers();
}

template <Copies kCopies>
__global__ void __launch_bounds__(kThreads, 1) attend_to_latents(const __grid_constant__ Call x) {
  extern __shared__ unsigned char memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  if (threadIdx.x == 0) {
    prefetch(x.latent_queries);
    if (kCopies != Copies::rows) {
      prefetch(x.boxes);
    }
    init_barriers<kCopies>(shared);
  }
  if constexpr (kCopies == Copies::twin_boxes) {
    meet_twin();
  } else {
    __syncthreads();
  }
  const int warpgroup = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
  if (warpgroup == 2) {
    give_registers<kCopyRegisters>();
    copy_ahead<kCopies>(x, shared);
  } else {
    take_registers<kProductRegisters>();
    Consumer<kCopies>(x, shared, warpgroup).run();
  }
  if constexpr (kCopies == Copies::twin_boxes) {
    meet_twin();
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
  DOVETAIL_CHECK(x.heads >= 1 && x.page_size >= 1 && x.num_sms >= 1, "latent decode: sizes");
  DOVETAIL_CHECK(x.splits >= 1 && (x.splits == 1 || x.segments.count == 0 || x.partial != nullptr),
                 "latent decode: splits");
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

/// Keys of a box, 0 where pages have none.
int box_keys(std::int64_t page_size) {
  constexpr std::int64_t least = kAtomBytes / kSlabRowBytes;
  if (page_size % kTileKeys == 0) {
    return kTileKeys;
  }
  return page_size < kTileKeys && kTileKeys % page_size == 0 && page_size >= least
             ? static_cast<int>(page_size)
             : 0;
}

/// Planes of rows, which are no further columns than a slab at once.
struct BoxedMatrix {
  const void* data = nullptr;
  std::int64_t columns = 0;
  std::int64_t rows = 0;
  std::int64_t row_stride = 0;
  std::int64_t planes = 1;
  std::int64_t plane_stride = 0;  // not for one plane
  int box_rows = 0;
};

/// For the copy engine: boxes of a slab's columns and box_rows rows.
CUtensorMap boxes_of(const BoxedMatrix& x) {
  static const auto encode =
      driver_function<PFN_cuTensorMapEncodeTiled_v12000>("cuTensorMapEncodeTiled", 12000);
  DOVETAIL_CHECK(encode != nullptr, "latent decode: the driver has no tensor maps");
  const auto unsign = [](std::int64_t value) { return static_cast<cuuint64_t>(value); };
  const cuuint64_t sizes[3] = {unsign(x.columns), unsign(x.rows), unsign(x.planes)};
  const cuuint64_t bytes[2] = {unsign(x.row_stride) * sizeof(bf16),
                               unsign(x.plane_stride) * sizeof(bf16)};
  const cuuint32_t box[3] = {kSlabColumns, static_cast<cuuint32_t>(x.box_rows), 1};
  const cuuint32_t steps[3] = {1, 1, 1};
  CUtensorMap map = {};
  const CUresult status = encode(&map,
                                 CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                                 x.plane_stride == 0 ? 2 : 3,
                                 const_cast<void*>(x.data),
                                 sizes,
                                 bytes,
                                 box,
                                 steps,
                                 CU_TENSOR_MAP_INTERLEAVE_NONE,
                                 CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                 CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  DOVETAIL_CHECK_EQ(static_cast<int>(status), static_cast<int>(CUDA_SUCCESS));
  return map;
}

template <Copies kCopies>
void launch(const Call& x, const dim3& grid, cudaStream_t stream) {
  static const cudaError_t allowed =
      cudaFuncSetAttribute(attend_to_latents<kCopies>,
                           cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(sizeof(Shared)));
  check_cuda(allowed, "shared memory of attend_to_latents");
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {kCopies == Copies::twin_boxes ? kTwins : 1, 1, 1};
  const cudaLaunchConfig_t config = {.gridDim = grid,
                                     .blockDim = dim3(kThreads),
                                     .dynamicSmemBytes = sizeof(Shared),
                                     .stream = stream,
                                     .attrs = &cluster,
                                     .numAttrs = 1};
  check_cuda(cudaLaunchKernelEx(&config, attend_to_latents<kCopies>, x),
             "launch of attend_to_latents");
}

/// Blocks of key-by-key copies have one part each; others walk over as many as they must.
void launch(Call& x, std::int64_t units, int num_sms, cudaStream_t stream) {
  dim3 grid(static_cast<unsigned>(head_blocks(x.heads)),
            static_cast<unsigned>(units),
            static_cast<unsigned>(x.splits));
  x.box_keys = box_keys(x.page_size);
  if (x.box_keys == 0) {
    launch<Copies::rows>(x, grid, stream);
    return;
  }
  const std::int64_t places = std::max<std::int64_t>(num_sms / head_blocks(x.heads), 1);
  grid.y = static_cast<unsigned>(std::min({units * x.splits, places, std::int64_t{kMaxWalkers}}));
  grid.z = 1;
  x.boxes = boxes_of({.data = x.latents,
                      .columns = kLatentKeyDim,
                      .rows = std::int64_t{1} << 31,  // block tables name those that are there
                      .row_stride = kLatentKeyDim,
                      .box_rows = x.box_keys});
  if (grid.x % kTwins == 0) {
    launch<Copies::twin_boxes>(x, grid, stream);
  } else {
    launch<Copies::boxes>(x, grid, stream);
  }
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
  constexpr float log2_of_e = 1.4426950408889634F;
  Call x = {
      .boxes = {},
      .latent_queries = boxes_of({.data = arguments.queries.latent,
                                  .columns = kLatentValueDim,
                                  .rows = arguments.heads,
                                  .row_stride = arguments.queries.latent_head_stride,
                                  .planes = std::max<std::int64_t>(arguments.tokens, 1),
                                  .plane_stride = arguments.queries.latent_token_stride,
                                  .box_rows = kHeads}),
      .box_keys = 0,
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
  launch(x, units, arguments.num_sms, stream);
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
