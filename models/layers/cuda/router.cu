// One warp a token. The k best are found one after another: the largest logit over the warp, then
// the lowest id among those that have it, which is the order of a stable descending sort.
#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"
#include "models/layers/cuda/bf16.cuh"
#include "models/layers/cuda/kernels.hpp"

namespace dovetail::gpu {
namespace {

constexpr int kThreads = 128;
constexpr float kInfinity = __builtin_huge_valf();

struct Router {
  const bf16* logits;
  const std::int64_t* slots;
  const std::int64_t* replayed;
  std::int64_t* expert_ids;
  float* weights;
  std::int64_t* natural_ids;  // with replayed only
  std::int64_t tokens;
  int experts;
  int k;
  bool normalize;
};

/// Unsigned numbers in the order of the floats; equal where the floats are (also -0 and 0). NaN is
/// the largest. Never 0.
__device__ __forceinline__ unsigned order_of(float value) {
  if (isnan(value)) {
    return 0xffffffffu;
  }
  const unsigned bits = value == 0 ? 0u : __float_as_uint(value);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

/// The logits of a token: lane l holds those of experts l, l + 32, ...
template <int kPerLane>
struct TokenLogits {
  float values[kPerLane];
  unsigned orders[kPerLane];  // 0 = taken, or no such expert

  __device__ void load(const bf16* logits, int experts, int lane) {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int expert = i * kWarpSize + lane;
      values[i] = expert < experts ? __bfloat162float(logits[expert]) : -kInfinity;
      orders[i] = expert < experts ? order_of(values[i]) : 0;
    }
  }

  /// Largest logit, and the sum of exp(logit - largest) over all experts.
  __device__ float2 softmax_sums() const {
    float largest = -kInfinity;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      largest = fmaxf(largest, values[i]);
    }
#pragma unroll
    for (int step = kWarpSize / 2; step > 0; step /= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, step));
    }
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      sum += expf(values[i] - largest);
    }
    return {largest, sum_over_lanes<kWarpSize>(sum)};
  }

  /// The best expert that is not taken yet, and takes it; the same in all lanes.
  __device__ unsigned take_best(int lane) {
    unsigned best = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      best = max(best, orders[i]);
    }
    best = __reduce_max_sync(kAllLanes, best);
    unsigned expert = 0xffffffffu;
#pragma unroll
    for (int i = kPerLane - 1; i >= 0; --i) {
      expert = orders[i] == best ? static_cast<unsigned>(i * kWarpSize + lane) : expert;
    }
    expert = __reduce_min_sync(kAllLanes, expert);
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      orders[i] = expert == static_cast<unsigned>(i * kWarpSize + lane) ? 0 : orders[i];
    }
    return expert;
  }
};

template <int kPerLane>
__global__ void __launch_bounds__(kThreads) route(const Router x) {
  const std::int64_t token =
      static_cast<std::int64_t>(blockIdx.x) * (kThreads / kWarpSize) + threadIdx.x / kWarpSize;
  if (token >= x.tokens) {
    return;  // the whole warp
  }
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const bf16* const logits = x.logits + token * x.experts;
  TokenLogits<kPerLane> all;
  all.load(logits, x.experts, lane);
  const float2 sums = all.softmax_sums();
  // Lane i < k holds the i-th choice.
  std::int64_t natural = 0;
  for (int i = 0; i < x.k; ++i) {
    const auto best = static_cast<std::int64_t>(all.take_best(lane));
    natural = lane == i ? best : natural;
  }
  const bool is_replayed = x.replayed != nullptr;
  const std::int64_t chosen = is_replayed && lane < x.k ? x.replayed[token * x.k + lane] : natural;
  // A replayed id may be -1 = padding; nothing outside the row is ever read.
  const auto readable =
      static_cast<int>(max(std::int64_t{0}, min(chosen, static_cast<std::int64_t>(x.experts) - 1)));
  float weight = lane < x.k ? expf(__bfloat162float(logits[readable]) - sums.x) / sums.y : 0;
  if (x.normalize) {
    weight /= sum_over_lanes<kWarpSize>(weight);
  }
  const bool is_padding = x.slots[token] < 0;
  if (lane < x.k) {
    x.expert_ids[token * x.k + lane] = is_padding ? -1 : chosen;
    x.weights[token * x.k + lane] = weight;
    if (is_replayed) {
      x.natural_ids[token * x.k + lane] = is_padding ? -1 : natural;
    }
  }
}

template <int kPerLane>
void launch(const Router& x, cudaStream_t stream) {
  constexpr std::int64_t tokens_per_block = kThreads / kWarpSize;
  const std::int64_t blocks = (x.tokens + tokens_per_block - 1) / tokens_per_block;
  route<kPerLane><<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(x);
  check_cuda(cudaGetLastError(), "launch of route");
}

}  // namespace

void launch_router(const RouterArguments& arguments, cudaStream_t stream) {
  DOVETAIL_CHECK(arguments.experts >= 1 && arguments.experts <= kMaxRoutedExperts,
                 "router: number of experts");
  DOVETAIL_CHECK(
      arguments.k >= 1 && arguments.k <= arguments.experts && arguments.k <= kMaxRoutedChoices,
      "router: number of choices");
  DOVETAIL_CHECK(arguments.tokens < (std::int64_t{1} << 31), "router: number of tokens");
  if (arguments.tokens == 0) {
    return;
  }
  const Router x = {.logits = static_cast<const bf16*>(arguments.logits),
                    .slots = arguments.slots,
                    .replayed = arguments.replayed,
                    .expert_ids = arguments.expert_ids,
                    .weights = arguments.weights,
                    .natural_ids = arguments.natural_ids,
                    .tokens = arguments.tokens,
                    .experts = static_cast<int>(arguments.experts),
                    .k = static_cast<int>(arguments.k),
                    .normalize = arguments.normalize};
  if (x.experts <= 1 * kWarpSize) {
    launch<1>(x, stream);
  } else if (x.experts <= 2 * kWarpSize) {
    launch<2>(x, stream);
  } else if (x.experts <= 4 * kWarpSize) {
    launch<4>(x, stream);
  } else if (x.experts <= 8 * kWarpSize) {
    launch<8>(x, stream);
  } else if (x.experts <= 16 * kWarpSize) {
    launch<16>(x, stream);
  } else {
    launch<32>(x, stream);
  }
}

}  // namespace dovetail::gpu
