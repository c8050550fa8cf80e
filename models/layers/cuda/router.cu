// One warp a token. The k best are found one after another: the largest score over the warp, then
// the lowest id among those that have it, which is the order of a stable descending sort. Softmax
// goes up with the logits, so these are its scores. Groups of experts are chosen alike, before.
#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"
#include "models/layers/cuda/bf16.cuh"
#include "models/layers/cuda/kernels.hpp"

namespace dovetail::gpu {
namespace {

constexpr int kThreads = 128;

/// Logit: bf16 or float.
template <class Logit>
struct Router {
  const Logit* logits;
  const float* bias;  // of sigmoid scores, where they are chosen by
  float* scores;      // of sigmoid scores, with the bias
  const std::int64_t* slots;
  const std::int64_t* replayed;
  std::int64_t* expert_ids;
  float* weights;
  std::int64_t* natural_ids;  // with replayed only
  std::int64_t tokens;
  int experts;
  int k;
  int num_groups;
  int num_chosen_groups;
  bool group_sum_of_two;
  bool sigmoid;
  bool normalize;
  float scale;
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

/// The lowest lane whose `order` is the largest, and that order; the same in all lanes.
struct Best {
  unsigned order;
  unsigned lane;
};

__device__ __forceinline__ Best best_lane(unsigned order) {
  const unsigned best = __reduce_max_sync(kAllLanes, order);
  const unsigned lanes = __ballot_sync(kAllLanes, order == best);
  return {best, static_cast<unsigned>(__ffs(static_cast<int>(lanes)) - 1)};
}

__device__ __forceinline__ float in_float(bf16 logit) {
  return __bfloat162float(logit);
}

__device__ __forceinline__ float in_float(float logit) {
  return logit;
}

__device__ __forceinline__ float sigmoid(float x) {
  return 1 / (1 + expf(-x));
}

/// The numbers that a token's experts are chosen by, its logits or sigmoid scores: lane l holds
/// those of experts l, l + 32, ...
template <int kPerLane>
struct TokenScores {
  float values[kPerLane];
  unsigned orders[kPerLane];  // 0 = taken, left out, or no such expert

  template <class Logit>
  __device__ void load(const Router<Logit>& x, std::int64_t token, int lane) {
    const Logit* const logits = x.logits + token * x.experts;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int expert = i * kWarpSize + lane;
      values[i] = -kInfinity;
      orders[i] = 0;
      if (expert >= x.experts) {
        continue;
      }
      values[i] = in_float(logits[expert]);
      if (x.sigmoid) {
        values[i] = sigmoid(values[i]) + (x.bias == nullptr ? 0 : x.bias[expert]);
        x.scores[token * x.experts + expert] = values[i];
      }
      orders[i] = order_of(values[i]);
    }
  }

  /// Leaves out all experts but those of the best groups.
  template <class Logit>
  __device__ void keep_best_groups(const Router<Logit>& x, int lane) {
    const int group_size = x.experts / x.num_groups;
    unsigned own = 0;  // lane g: the order of group g's score
    for (int group = 0; group < x.num_groups; ++group) {
      const unsigned score = order_of(group_score(x, group, group_size, lane));
      own = lane == group ? score : own;
    }
    unsigned kept = 0;
    for (int i = 0; i < x.num_chosen_groups; ++i) {
      const Best best = best_lane(own);
      kept |= 1u << best.lane;
      own = lane == static_cast<int>(best.lane) ? 0 : own;
    }
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int expert = i * kWarpSize + lane;
      if (expert < x.experts && (kept >> (expert / group_size) & 1u) == 0) {
        orders[i] = 0;
      }
    }
  }

  /// The best score of a group, or the sum of its two best; the same in all lanes.
  template <class Logit>
  __device__ float group_score(const Router<Logit>& x, int group, int group_size, int lane) const {
    float first = -kInfinity;
    float second = -kInfinity;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int expert = i * kWarpSize + lane;
      if (expert < x.experts && expert / group_size == group) {
        second = fmaxf(second, fminf(first, values[i]));
        first = fmaxf(first, values[i]);
      }
    }
#pragma unroll
    for (int step = kWarpSize / 2; step > 0; step /= 2) {
      const float other_first = __shfl_xor_sync(kAllLanes, first, step);
      const float other_second = __shfl_xor_sync(kAllLanes, second, step);
      second = fmaxf(fmaxf(second, other_second), fminf(first, other_first));
      first = fmaxf(first, other_first);
    }
    return x.group_sum_of_two ? first + second : first;
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

template <class Logit, int kPerLane>
__global__ void __launch_bounds__(kThreads) route(const Router<Logit> x) {
  const std::int64_t token =
      static_cast<std::int64_t>(blockIdx.x) * (kThreads / kWarpSize) + threadIdx.x / kWarpSize;
  if (token >= x.tokens) {
    return;  // the whole warp
  }
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const Logit* const logits = x.logits + token * x.experts;
  TokenScores<kPerLane> all;
  all.load(x, token, lane);
  const float2 sums = x.sigmoid ? float2{0, 1} : all.softmax_sums();
  if (x.num_chosen_groups < x.num_groups) {
    all.keep_best_groups(x, lane);
  }
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
  const float logit = in_float(logits[readable]);
  float weight = x.sigmoid ? sigmoid(logit) : expf(logit - sums.x) / sums.y;
  weight = lane < x.k ? weight : 0;
  if (x.normalize) {
    weight /= sum_over_lanes<kWarpSize>(weight);
  }
  weight *= x.scale;
  const bool is_padding = x.slots[token] < 0;
  if (lane < x.k) {
    x.expert_ids[token * x.k + lane] = is_padding ? -1 : chosen;
    x.weights[token * x.k + lane] = weight;
    if (is_replayed) {
      x.natural_ids[token * x.k + lane] = is_padding ? -1 : natural;
    }
  }
}

template <int kPerLane, class Logit>
void launch(const Router<Logit>& x, cudaStream_t stream) {
  constexpr std::int64_t tokens_per_block = kThreads / kWarpSize;
  const std::int64_t blocks = (x.tokens + tokens_per_block - 1) / tokens_per_block;
  route<Logit, kPerLane><<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(x);
  check_cuda(cudaGetLastError(), "launch of route");
}

template <class Logit>
void launch_with_logits(const RouterArguments& arguments, cudaStream_t stream) {
  const Router<Logit> x = {.logits = static_cast<const Logit*>(arguments.logits),
                           .bias = arguments.bias,
                           .scores = arguments.scores,
                           .slots = arguments.slots,
                           .replayed = arguments.replayed,
                           .expert_ids = arguments.expert_ids,
                           .weights = arguments.weights,
                           .natural_ids = arguments.natural_ids,
                           .tokens = arguments.tokens,
                           .experts = static_cast<int>(arguments.experts),
                           .k = static_cast<int>(arguments.k),
                           .num_groups = static_cast<int>(arguments.num_groups),
                           .num_chosen_groups = static_cast<int>(arguments.num_chosen_groups),
                           .group_sum_of_two = arguments.group_sum_of_two,
                           .sigmoid = arguments.sigmoid,
                           .normalize = arguments.normalize,
                           .scale = arguments.scale};
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

}  // namespace

void launch_router(const RouterArguments& arguments, cudaStream_t stream) {
  DOVETAIL_CHECK(arguments.experts >= 1 && arguments.experts <= kMaxRoutedExperts,
                 "router: number of experts");
  DOVETAIL_CHECK(
      arguments.k >= 1 && arguments.k <= arguments.experts && arguments.k <= kMaxRoutedChoices,
      "router: number of choices");
  DOVETAIL_CHECK(arguments.tokens < (std::int64_t{1} << 31), "router: number of tokens");
  DOVETAIL_CHECK(
      arguments.num_groups >= 1 && arguments.num_groups <= kMaxRoutedGroups &&
          arguments.experts % arguments.num_groups == 0 && arguments.num_chosen_groups >= 1 &&
          arguments.num_chosen_groups * (arguments.experts / arguments.num_groups) >= arguments.k,
      "router: groups");
  if (arguments.tokens == 0) {
    return;  // memory for nothing is null
  }
  DOVETAIL_CHECK(arguments.sigmoid ? arguments.scores != nullptr : arguments.bias == nullptr,
                 "router: scores");
  if (arguments.has_float32_logits) {
    launch_with_logits<float>(arguments, stream);
  } else {
    launch_with_logits<bf16>(arguments, stream);
  }
}

}  // namespace dovetail::gpu
