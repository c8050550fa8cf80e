// The running softmax of attention on warpgroups: scores lie as accumulators of wgmma.cuh. A share
// is a score's exponential relative to the largest so far; what was summed before is multiplied.
#pragma once

#include "models/layers/cuda/bf16.cuh"

namespace dovetail::gpu {

/// Of rows g and g + 8 of a warp. Scores count in powers of 2.
struct RunningShares {
  float largest[2] = {-kInfinity, -kInfinity};
  float total[2] = {0, 0};  // of this lane's keys

  /// Scores -> shares relative to the largest score so far. `seen`: number of keys of this tile
  /// that each row sees. `factors`: of what was summed before.
  template <bool kMasked, int kScores>
  __device__ __forceinline__ void update(float (&scores)[kScores],
                                         float scale_log2,
                                         const int (&seen)[2],
                                         float (&factors)[2]) {
    const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int of_pair = 0; of_pair < 2; ++of_pair) {
      float best = -kInfinity;
#pragma unroll
      for (int i = 0; i < kScores / 2; ++i) {
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
      for (int i = 0; i < kScores / 2; ++i) {
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

/// Shares in bfloat16, as the operand of the next product: of 16 keys each.
template <int kSteps, int kScores>
__device__ __forceinline__ void round_shares(unsigned (&to)[kSteps][4],
                                             const float (&shares)[kScores]) {
  static_assert(kScores == 8 * kSteps);
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const __nv_bfloat162 pair =
          __floats2bfloat162_rn(shares[8 * step + 2 * i], shares[8 * step + 2 * i + 1]);
      to[step][i] = *reinterpret_cast<const unsigned*>(&pair);
    }
  }
}

}  // namespace dovetail::gpu
