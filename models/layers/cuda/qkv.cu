// Norm, rotation and cache of one head of one token are done by a few lanes of a warp. Each lane
// holds the same elements of both halves of what turns, and of both halves of the rest of the head,
// so what turns together is in one lane.
#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"
#include "models/layers/cuda/bf16.cuh"
#include "models/layers/cuda/kernels.hpp"

namespace dovetail::gpu {
namespace {

constexpr int kThreads = 256;

/// Sizes and addresses, as the kernel wants them.
struct Qkv {
  bf16* qkv;
  const bf16* q_norm;
  const bf16* k_norm;
  const bf16* cosine;  // [tokens, turning]
  const bf16* sine;
  const std::int64_t* slots;
  bf16* keys;
  bf16* values;
  unsigned heads;
  unsigned kv_heads;
  unsigned items;  // tokens * (heads + 2 kv_heads)
  int half;        // of head_dim
  int turning;     // half of the elements that turn, the head's first
  float epsilon;
};

/// Where in a head a lane's elements begin.
struct Places {
  int first;
  int second;
  bool turns;

  __device__ static Places of(const Qkv& x, int offset) {
    if (offset < x.turning) {
      return {offset, offset + x.turning, true};
    }
    const int rest = offset + x.turning;
    return {rest, rest + x.half - x.turning, false};
  }
};

/// What one lane holds of a head.
template <int kChunk>
struct HeadPart {
  Bf16Vector<kChunk> first;
  Bf16Vector<kChunk> second;

  __device__ float squares() const {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const float a = __bfloat162float(first.values[i]);
      const float b = __bfloat162float(second.values[i]);
      sum += a * a + b * b;
    }
    return sum;
  }

  /// Both halves times `scale`, rounded, times their weights, rounded.
  __device__ void norm(float scale, const HeadPart& weight) {
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      first.values[i] = __float2bfloat16_rn(rounded(__bfloat162float(first.values[i]) * scale) *
                                            __bfloat162float(weight.first.values[i]));
      second.values[i] = __float2bfloat16_rn(rounded(__bfloat162float(second.values[i]) * scale) *
                                             __bfloat162float(weight.second.values[i]));
    }
  }

  /// Each half is rounded after its first product, and after the sum with the second (which is
  /// exact in float).
  __device__ void turn(const Bf16Vector<kChunk>& cosine, const Bf16Vector<kChunk>& sine) {
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const float a = __bfloat162float(first.values[i]);
      const float b = __bfloat162float(second.values[i]);
      const float c = __bfloat162float(cosine.values[i]);
      const float s = __bfloat162float(sine.values[i]);
      first.values[i] = __float2bfloat16_rn(rounded(a * c) - b * s);
      second.values[i] = __float2bfloat16_rn(rounded(b * c) + a * s);
    }
  }
};

/// kLanes lanes a head; the first half / kChunk of them hold something.
template <int kChunk, int kLanes>
__global__ void __launch_bounds__(kThreads) norm_turn_and_cache(const Qkv x) {
  const unsigned item = blockIdx.x * (kThreads / kLanes) + threadIdx.x / kLanes;
  const int offset = static_cast<int>(threadIdx.x % kLanes) * kChunk;
  // A lane without work stays for the sum over the lanes.
  const bool works = item < x.items && offset < x.half;
  const unsigned per_token = x.heads + 2 * x.kv_heads;
  const unsigned token = item / per_token;
  const unsigned head = item % per_token;
  const bool is_query = head < x.heads;
  const bool is_value = head >= x.heads + x.kv_heads;
  const Places places = Places::of(x, offset);
  bf16* const row = x.qkv + std::int64_t{item} * (2 * x.half);
  HeadPart<kChunk> part = {};
  if (works) {
    part = {load_vector<kChunk>(row + places.first), load_vector<kChunk>(row + places.second)};
  }
  const float squares = sum_over_lanes<kLanes>(part.squares());
  if (!works) {
    return;
  }
  if (!is_value) {
    if (x.q_norm != nullptr) {
      const bf16* const norm = is_query ? x.q_norm : x.k_norm;
      part.norm(
          rsqrtf(squares / static_cast<float>(2 * x.half) + x.epsilon),
          {load_vector<kChunk>(norm + places.first), load_vector<kChunk>(norm + places.second)});
    }
    if (places.turns) {
      const std::int64_t angle = std::int64_t{token} * x.turning + offset;
      part.turn(load_vector<kChunk>(x.cosine + angle), load_vector<kChunk>(x.sine + angle));
    }
    store_vector<kChunk>(row + places.first, part.first);
    store_vector<kChunk>(row + places.second, part.second);
  }
  if (is_query) {
    return;
  }
  const std::int64_t slot = x.slots[token];
  if (slot < 0) {
    return;
  }
  const unsigned kv_head = head - x.heads - (is_value ? x.kv_heads : 0);
  bf16* const cached =
      (is_value ? x.values : x.keys) + (slot * x.kv_heads + kv_head) * (2 * x.half);
  store_vector<kChunk>(cached + places.first, part.first);
  store_vector<kChunk>(cached + places.second, part.second);
}

template <int kChunk, int kLanes>
void launch(const Qkv& x, cudaStream_t stream) {
  constexpr unsigned items_per_block = kThreads / kLanes;
  norm_turn_and_cache<kChunk, kLanes>
      <<<(x.items - 1) / items_per_block + 1, kThreads, 0, stream>>>(x);
  check_cuda(cudaGetLastError(), "launch of norm_turn_and_cache");
}

template <int kChunk>
void launch_for_lanes(const Qkv& x, cudaStream_t stream) {
  const int needed = x.half / kChunk;
  if (needed <= 1) {
    launch<kChunk, 1>(x, stream);
  } else if (needed <= 2) {
    launch<kChunk, 2>(x, stream);
  } else if (needed <= 4) {
    launch<kChunk, 4>(x, stream);
  } else if (needed <= 8) {
    launch<kChunk, 8>(x, stream);
  } else if (needed <= 16) {
    launch<kChunk, 16>(x, stream);
  } else {
    launch<kChunk, 32>(x, stream);
  }
}

}  // namespace

void launch_qkv(const QkvArguments& arguments, cudaStream_t stream) {
  const std::int64_t half = arguments.head_dim / 2;
  const std::int64_t turning = arguments.rotary_dim / 2;
  DOVETAIL_CHECK(arguments.head_dim % 8 == 0 && arguments.head_dim <= 256, "qkv: head_dim");
  DOVETAIL_CHECK(arguments.rotary_dim % 8 == 0 && arguments.rotary_dim <= arguments.head_dim,
                 "qkv: rotary_dim");
  const std::int64_t items = arguments.tokens * (arguments.heads + 2 * arguments.kv_heads);
  DOVETAIL_CHECK(items < (std::int64_t{1} << 31), "qkv: number of heads of all tokens");
  if (items == 0) {
    return;
  }
  const auto* table = static_cast<const bf16*>(arguments.rotary);
  const Qkv x = {.qkv = static_cast<bf16*>(arguments.qkv),
                 .q_norm = static_cast<const bf16*>(arguments.q_norm),
                 .k_norm = static_cast<const bf16*>(arguments.k_norm),
                 .cosine = table,
                 .sine = table + arguments.tokens * turning,
                 .slots = arguments.slots,
                 .keys = static_cast<bf16*>(arguments.keys),
                 .values = static_cast<bf16*>(arguments.values),
                 .heads = static_cast<unsigned>(arguments.heads),
                 .kv_heads = static_cast<unsigned>(arguments.kv_heads),
                 .items = static_cast<unsigned>(items),
                 .half = static_cast<int>(half),
                 .turning = static_cast<int>(turning),
                 .epsilon = arguments.epsilon};
  if (half % 8 == 0 && turning % 8 == 0) {
    launch_for_lanes<8>(x, stream);
  } else {
    launch_for_lanes<4>(x, stream);
  }
}

}  // namespace dovetail::gpu
