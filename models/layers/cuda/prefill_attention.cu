// Causal attention of many queries a segment. A block takes 128 queries of one head and walks over
// the keys in tiles of 128, in ascending order from the segment's first key, so that a row's bits
// do not depend on the queries beside it. Three warpgroups: one copies keys and values ahead, two
// take 64 queries each; while one turns scores into shares, the tensor cores multiply for the
// other. (Roles and overlap as in FlashAttention-3, arXiv:2407.08608, sections 3.1 and 3.2.)
#include <algorithm>

#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"
#include "models/layers/cuda/kernels.hpp"
#include "models/layers/cuda/wgmma.cuh"

namespace dovetail::gpu {
namespace {

constexpr int kQueries = 128;  // of a block
constexpr int kRows = 64;      // of a warpgroup
constexpr int kTileKeys = 128;
constexpr int kStages = 2;
constexpr int kValueSlabs = static_cast<int>(kPrefillValueDim) / kSlabColumns;
constexpr int kConsumers = 2 * kWarpgroup;
constexpr int kThreads = kWarpgroup + kConsumers;
constexpr int kSlabBytes = kTileKeys * kSlabRowBytes;
constexpr int kCopyRegisters = 40;
constexpr int kProductRegisters = 232;
constexpr float kInfinity = __builtin_huge_valf();

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

/// Begins scores = queries keys^T.
template <int kKeySlabs>
__device__ __forceinline__ void begin_scores(float (&scores)[64], unsigned queries, unsigned keys) {
#pragma unroll
  for (int slab = 0; slab < kKeySlabs; ++slab) {
#pragma unroll
    for (int step = 0; step < kSlabColumns / 16; ++step) {
      const unsigned offset = slab * kSlabBytes + step * 32;
      multiply(scores,
               row_major_operand(queries + offset),
               row_major_operand(keys + offset),
               slab + step > 0);
    }
  }
  end_products();
}

/// Begins sums += shares values.
__device__ __forceinline__ void begin_sums(float (&sums)[64],
                                           const unsigned (&shares)[8][4],
                                           unsigned values) {
#pragma unroll
  for (int step = 0; step < kTileKeys / 16; ++step) {
    multiply_add(
        sums, shares[step], column_major_operand(values + step * 2 * kAtomBytes, kSlabBytes));
  }
  end_products();
}

/// The running softmax of rows g and g + 8 of a warp.
struct RunningShares {
  float largest[2] = {-kInfinity, -kInfinity};
  float total[2] = {0, 0};  // of this lane's keys

  /// Scores -> shares relative to the largest score so far. `seen`: number of keys of this tile
  /// that each row sees. `factors`: of what was summed before.
  template <bool kMasked>
  __device__ __forceinline__ void update(float (&scores)[64],
                                         float scale_log2,
                                         const int (&seen)[2],
                                         float (&factors)[2]) {
    const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int of_pair = 0; of_pair < 2; ++of_pair) {
      float best = -kInfinity;
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        float& score = scores[i / 2 * 4 + 2 * of_pair + i % 2];
        if (kMasked && i / 2 * 8 + 2 * t + i % 2 >= seen[of_pair]) {
          score = -kInfinity;
        }
        best = fmaxf(best, score);
      }
      best = fmaxf(best, __shfl_xor_sync(kAllLanes, best, 1));
      best = fmaxf(best, __shfl_xor_sync(kAllLanes, best, 2));
      best = fmaxf(best * scale_log2, largest[of_pair]);  // finite: every row sees its first key
      factors[of_pair] = exp2f(largest[of_pair] - best);
      largest[of_pair] = best;
      float sum = 0;
#pragma unroll
      for (int i = 0; i < 32; ++i) {
        float& score = scores[i / 2 * 4 + 2 * of_pair + i % 2];
        score = exp2f(fmaf(score, scale_log2, -best));
        sum += score;
      }
      total[of_pair] = total[of_pair] * factors[of_pair] + sum;
    }
  }

  /// Over the four lanes of a row.
  __device__ __forceinline__ float all(int of_pair) const {
    float sum = total[of_pair];
    sum += __shfl_xor_sync(kAllLanes, sum, 1);
    return sum + __shfl_xor_sync(kAllLanes, sum, 2);
  }
};

/// In bfloat16, as the operand of the next product.
__device__ __forceinline__ void round_shares(unsigned (&to)[8][4], const float (&shares)[64]) {
#pragma unroll
  for (int step = 0; step < 8; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const __nv_bfloat162 pair =
          __floats2bfloat162_rn(shares[8 * step + 2 * i], shares[8 * step + 2 * i + 1]);
      to[step][i] = *reinterpret_cast<const unsigned*>(&pair);
    }
  }
}

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
  begin_scores<kOwnSlabs + kSharedSlabs>(scores, queries, shared_address(shared.keys[0]));
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
      begin_scores<kOwnSlabs + kSharedSlabs>(scores, queries, shared_address(shared.keys[next]));
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
