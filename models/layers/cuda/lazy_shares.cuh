// A running softmax that seldom has something to multiply: what shares are relative to may stay
// behind the largest score. So another warpgroup can follow at little cost.
#pragma once

#include "models/layers/cuda/running_shares.cuh"

namespace dovetail::gpu {

/// 2^x; 0 where that is no normal number. (Volatile: it is not moved behind a wait for products.)
__device__ __forceinline__ float power_of_2(float x) {
  float result;
  asm volatile("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

/// `largest` is what shares are relative to. Its parts take turns: raise and exponentiate where
/// this warpgroup has a tile's scores, follow where another has them.
struct LazyShares : RunningShares {
  /// Takes this tile's largest scores into account. `seen`: number of its keys that each row sees.
  /// `factors`: of what was summed before. `largest` may stay behind by kSlack, so that there is
  /// seldom something to multiply; shares are at most 2^kSlack then.
  template <bool kMasked, int kSlack, int kScores>
  __device__ __forceinline__ void raise(float (&scores)[kScores],
                                        float scale_log2,
                                        const int (&seen)[2],
                                        float (&factors)[2]) {
    const int column = static_cast<int>(threadIdx.x) % 4 * 2;  // of this lane's first score
    const int own[2] = {seen[0] - column, seen[1] - column};
    float best[2][2] = {{-kInfinity, -kInfinity}, {-kInfinity, -kInfinity}};  // short chains
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      const int of_pair = i / 2 % 2;
      if (kMasked && i / 4 * 8 + i % 2 >= own[of_pair]) {
        scores[i] = -kInfinity;
      }
      best[of_pair][i % 2] = fmaxf(best[of_pair][i % 2], scores[i]);
    }
    float all[2];
#pragma unroll
    for (int of_pair = 0; of_pair < 2; ++of_pair) {
      all[of_pair] = fmaxf(best[of_pair][0], best[of_pair][1]);
    }
#pragma unroll
    for (int step = 1; step <= 2; step *= 2) {
#pragma unroll
      for (int of_pair = 0; of_pair < 2; ++of_pair) {
        all[of_pair] = fmaxf(all[of_pair], __shfl_xor_sync(kAllLanes, all[of_pair], step));
      }
    }
#pragma unroll
    for (int of_pair = 0; of_pair < 2; ++of_pair) {
      const float scaled = all[of_pair] * scale_log2;  // finite: a row sees its first key
      const float now = scaled > largest[of_pair] + kSlack ? scaled : largest[of_pair];
      factors[of_pair] = power_of_2(largest[of_pair] - now);
      largest[of_pair] = now;
      total[of_pair] *= factors[of_pair];
    }
  }

  /// Scores -> shares.
  template <int kScores>
  __device__ __forceinline__ void exponentiate(float (&scores)[kScores], float scale_log2) {
#pragma unroll
    for (int of_pair = 0; of_pair < 2; ++of_pair) {
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kScores / 2; ++i) {
        float& score = scores[i / 2 * 4 + 2 * of_pair + i % 2];
        score = power_of_2(fmaf(score, scale_log2, -largest[of_pair]));
        sum += score;
      }
      total[of_pair] += sum;
    }
  }

  /// What raise does where another warpgroup has a tile's scores. `now`: the largest ones then.
  __device__ __forceinline__ void follow(const float (&now)[2], float (&factors)[2]) {
#pragma unroll
    for (int of_pair = 0; of_pair < 2; ++of_pair) {
      factors[of_pair] = power_of_2(largest[of_pair] - now[of_pair]);
      largest[of_pair] = now[of_pair];
      total[of_pair] *= factors[of_pair];
    }
  }
};

}  // namespace dovetail::gpu
