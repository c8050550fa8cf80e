#include "framework/cuda/check.hpp"
#include "models/layers/cuda/decode_splits.cuh"

namespace dovetail::gpu {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpSize;

/// Block (x, y), a warp a head: heads [4 y, 4 y + 4) of segment x.
__global__ void __launch_bounds__(kThreads) join_splits(const JoinSplitsCall x) {
  const int segment = static_cast<int>(blockIdx.x);
  const int head =
      static_cast<int>(blockIdx.y) * kWarps + static_cast<int>(threadIdx.x) / kWarpSize;
  const std::int64_t row = x.query_starts[segment];
  if (head >= x.heads || x.query_starts[segment + 1] == row) {
    return;
  }
  const std::int64_t first = static_cast<std::int64_t>(segment) * x.heads + head;
  const std::int64_t step = x.segments * x.heads;
  float best = -kInfinity;
  for (int split = 0; split < x.splits; ++split) {
    best = fmaxf(best, x.partial_stats[first + split * step].x);
  }
  float total = 0;
  for (int split = 0; split < x.splits; ++split) {
    const float2 stats = x.partial_stats[first + split * step];
    total += stats.x == -kInfinity ? 0 : exp2f(stats.x - best) * stats.y;
  }
  const float factor = factor_of(total);
  for (int dim = static_cast<int>(threadIdx.x) % kWarpSize; dim < x.dim; dim += kWarpSize) {
    float sum = 0;
    for (int split = 0; split < x.splits; ++split) {
      const std::int64_t place = first + split * step;
      const float largest = x.partial_stats[place].x;
      if (largest != -kInfinity) {
        sum += exp2f(largest - best) * x.partial[place * x.dim + dim];
      }
    }
    x.result[row * x.token_stride + head * x.head_stride + dim] = __float2bfloat16_rn(sum * factor);
  }
}

}  // namespace

void launch_join_splits(const JoinSplitsCall& call, cudaStream_t stream) {
  if (call.segments == 0 || call.heads == 0) {
    return;
  }
  const dim3 grid(static_cast<unsigned>(call.segments),
                  static_cast<unsigned>((call.heads + kWarps - 1) / kWarps));
  join_splits<<<grid, kThreads, 0, stream>>>(call);
  check_cuda(cudaGetLastError(), "launch of join_splits");
}

}  // namespace dovetail::gpu
