// Causal attention of many queries a segment. A block takes 128 queries of one head and walks over
// the keys in tiles of 128, in ascending order from the segment's first key, so that a row's bits
// do not depend on the queries beside it. Three warpgroups: one copies keys and values ahead, two
// take 64 queries each; while one turns scores into shares, the tensor cores multiply for the
// other. (Roles and overlap as in FlashAttention-3, arXiv:2407.08608, sections 3.1 and 3.2.)
#include "models/layers/cuda/prefill_attention.cuh"

#include <algorithm>

#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"
#include "models/layers/cuda/running_shares.cuh"

namespace dovetail::gpu {
using namespace prefill;  // NOLINT(google-build-using-namespace)

namespace {

__device__ __forceinline__ void store_rows(const Call& x,
                                           const Part& part,
                                           int row,
                                           const float (&sums)[64],
                                           const RunningShares& running) {
#pragma unroll
  for (int of_pair = 0; of_pair < 2; ++of_pair) {
    const float factor = 1 / running.all(of_pair);
    const int query = row + 8 * of_pair;
    if (query >= part.num_queries) {
      continue;
    }
    bf16* const to =
        x.result +
        ((std::int64_t{part.first_row} + part.first_query + query) * x.heads + part.head) *
            kPrefillValueDim +
        static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int j = 0; j < 16; ++j) {
      *reinterpret_cast<__nv_bfloat162*>(to + 8 * j) = __floats2bfloat162_rn(
          sums[4 * j + 2 * of_pair] * factor, sums[4 * j + 2 * of_pair + 1] * factor);
    }
  }
}

template <int kOwnSlabs, int kSharedSlabs>
__device__ __forceinline__ void attend_to_tiles(const Call& x,
                                                const Part& part,
                                                Shared<kOwnSlabs, kSharedSlabs>& shared,
                                                int warpgroup) {
  const int row = warpgroup * kRows + static_cast<int>(threadIdx.x) % kWarpgroup / kWarpSize * 16 +
                  static_cast<int>(threadIdx.x) % kWarpSize / 4;
  // Number of keys that the rows see; rows behind the queries see what the last one does.
  const int seen_by_first = part.context + part.first_query + 1;
  const int seen[2] = {min(seen_by_first + row, part.num_keys),
                       min(seen_by_first + row + 8, part.num_keys)};
  const unsigned queries = shared_address(shared.queries) + warpgroup * kRows * kSlabRowBytes;
  const int tiles = part.num_tiles();
  // Tiles that all rows of this warpgroup see whole.
  const int whole = __shfl_sync(kAllLanes, (seen_by_first + warpgroup * kRows) / kTileKeys, 0);
  float scores[64];
  float sums[64] = {};
  unsigned shares[8][4];
  RunningShares running;
  shared.queries_there.wait(0);
  shared.keys_there[0].wait(0);
  publish_to_products();
  pin(scores);
  begin_products();
  begin_row_products<kOwnSlabs + kSharedSlabs, kSlabBytes>(
      scores, queries, shared_address(shared.keys[0]));
  await_products<0>();
  pin(scores);
  shared.keys_used[0].arrive();
  for (int tile = 0; tile < tiles; ++tile) {
    const int stage = tile % kStages;
    const int next = (tile + 1) % kStages;
    float factors[2];
    if (tile < whole) {
      running.update<false>(scores, x.scale_log2, seen, factors);
    } else {
      const int left[2] = {seen[0] - tile * kTileKeys, seen[1] - tile * kTileKeys};
      running.update<true>(scores, x.scale_log2, left, factors);
    }
    round_shares(shares, scores);
#pragma unroll
    for (int i = 0; i < 64; ++i) {
      sums[i] *= i % 4 < 2 ? factors[0] : factors[1];
    }
    shared.values_there[stage].wait(tile / kStages);
    if (tile + 1 < tiles) {
      shared.keys_there[next].wait((tile + 1) / kStages);
    }
    publish_to_products();
    pin(sums);
    pin(scores);
    begin_products();
    begin_sums(sums, shares, shared_address(shared.values[stage]));
    if (tile + 1 < tiles) {
      // The next tile's scores, so that the tensor cores go on.
      begin_row_products<kOwnSlabs + kSharedSlabs, kSlabBytes>(
          scores, queries, shared_address(shared.keys[next]));
      await_products<1>();
      shared.values_used[stage].arrive();
      await_products<0>();
      shared.keys_used[next].arrive();
    } else {
      await_products<0>();
    }
    pin(sums);
    pin(scores);
  }
  store_rows(x, part, row, sums, running);
}

template <int kOwnSlabs, int kSharedSlabs>
__global__ void __launch_bounds__(kThreads, 1) attend(const __grid_constant__ Call x) {
  extern __shared__ unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared<kOwnSlabs, kSharedSlabs>*>(memory);
  const int segment = static_cast<int>(blockIdx.z);
  Part part = {};
  part.head = static_cast<int>(blockIdx.y);
  part.first_query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kQueries;  // long ones first
  part.first_row = x.query_starts[segment];
  part.first_key = x.key_starts[segment];
  const int query_length = x.query_starts[segment + 1] - part.first_row;
  part.num_queries = min(kQueries, query_length - part.first_query);
  if (part.num_queries <= 0) {
    return;
  }
  part.context = x.key_starts[segment + 1] - part.first_key - query_length;
  part.num_keys = part.context + part.first_query + part.num_queries;
  if (threadIdx.x == 0) {
    shared.queries_there.init(kWarpgroup);
    for (int stage = 0; stage < kStages; ++stage) {
      shared.keys_there[stage].init(kWarpgroup);
      shared.values_there[stage].init(kWarpgroup);
      shared.keys_used[stage].init(kConsumers);
      shared.values_used[stage].init(kConsumers);
    }
  }
  __syncthreads();
  const int warpgroup = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
  if (warpgroup == 0) {
    give_registers<kCopyRegisters>();
    copy_ahead(x, part, shared);
  } else {
    take_registers<kProductRegisters>();
    attend_to_tiles(x, part, shared, warpgroup - 1);
  }
}

template <int kOwnSlabs, int kSharedSlabs>
void launch(const Call& x, const dim3& grid, cudaStream_t stream) {
  constexpr int bytes = static_cast<int>(sizeof(Shared<kOwnSlabs, kSharedSlabs>));
  static const cudaError_t allowed = cudaFuncSetAttribute(
      attend<kOwnSlabs, kSharedSlabs>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  check_cuda(allowed, "shared memory of prefill attention");
  attend<kOwnSlabs, kSharedSlabs><<<grid, kThreads, bytes, stream>>>(x);
  check_cuda(cudaGetLastError(), "launch of prefill attention");
}

}  // namespace

bool prefill_attention_takes(std::int64_t key_dim,
                             std::int64_t shared_key_dim,
                             std::int64_t value_dim) {
  return key_dim == 128 && (shared_key_dim == 0 || shared_key_dim == 64) &&
         value_dim == kPrefillValueDim;
}

void launch_prefill_attention(const PrefillArguments& arguments, cudaStream_t stream) {
  DOVETAIL_CHECK(arguments.kv_heads >= 1 && arguments.heads % arguments.kv_heads == 0,
                 "prefill attention: heads of a kv head");
  DOVETAIL_CHECK(arguments.segments <= 65535 && arguments.heads <= 65535,
                 "prefill attention: number of segments or heads");
  for (const AttentionRows* rows :
       {&arguments.queries, &arguments.keys, &arguments.shared_keys, &arguments.values}) {
    DOVETAIL_CHECK(rows->token_stride % 8 == 0 && rows->head_stride % 8 == 0,
                   "prefill attention: alignment");
  }
  if (arguments.segments == 0 || arguments.max_query_length == 0) {
    return;
  }
  constexpr float log2_of_e = 1.4426950408889634F;
  const Call x = {.queries = arguments.queries,
                  .keys = arguments.keys,
                  .shared_keys = arguments.shared_keys,
                  .values = arguments.values,
                  .result = static_cast<bf16*>(arguments.result),
                  .query_starts = arguments.query_starts,
                  .key_starts = arguments.key_starts,
                  .heads = static_cast<int>(arguments.heads),
                  .group = static_cast<int>(arguments.heads / arguments.kv_heads),
                  .scale_log2 = arguments.scale * log2_of_e};
  const dim3 grid(static_cast<unsigned>((arguments.max_query_length + kQueries - 1) / kQueries),
                  static_cast<unsigned>(arguments.heads),
                  static_cast<unsigned>(arguments.segments));
  if (arguments.shared_keys.data != nullptr) {
    launch<2, 1>(x, grid, stream);
  } else {
    launch<2, 0>(x, grid, stream);
  }
}

}  // namespace dovetail::gpu
