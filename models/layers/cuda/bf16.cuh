// bfloat16 in device code: vectors of 16 and 8 bytes, and sums over a warp. Arithmetic is done in
// float and rounded to nearest even.
#pragma once

#include <cstdint>
#include <type_traits>

#include <cuda_bf16.h>

namespace dovetail::gpu {

using bf16 = __nv_bfloat16;

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;
inline constexpr float kInfinity = __builtin_huge_valf();

/// kSize neighbouring elements that are loaded and stored at once; the address is a multiple of
/// their bytes.
template <int kSize>
struct alignas(kSize * sizeof(bf16)) Bf16Vector {
  static_assert(kSize == 4 || kSize == 8);
  bf16 values[kSize];
};

/// The bytes of a vector as one machine word, so that the compiler does not cut an access.
template <int kSize>
using VectorWord = std::conditional_t<kSize == 8, uint4, uint2>;

template <int kSize>
__device__ __forceinline__ Bf16Vector<kSize> load_vector(const bf16* from) {
  Bf16Vector<kSize> vector;
  *reinterpret_cast<VectorWord<kSize>*>(vector.values) =
      *reinterpret_cast<const VectorWord<kSize>*>(from);
  return vector;
}

/// To global memory; written out, as the compiler would cut some of these.
template <int kSize>
__device__ __forceinline__ void store_vector(bf16* to, const Bf16Vector<kSize>& vector) {
  const auto word = *reinterpret_cast<const VectorWord<kSize>*>(vector.values);
  if constexpr (kSize == 8) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to),
                 "r"(word.x),
                 "r"(word.y),
                 "r"(word.z),
                 "r"(word.w)
                 : "memory");
  } else {
    asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(word.x), "r"(word.y) : "memory");
  }
}

/// The value after rounding to bf16.
__device__ __forceinline__ float rounded(float value) {
  return __bfloat162float(__float2bfloat16_rn(value));
}

/// Sum over `kLanes` neighbouring lanes (a power of two), the same in all of them. All lanes of the
/// warp call.
template <int kLanes>
__device__ __forceinline__ float sum_over_lanes(float value) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, step);
  }
  return value;
}

}  // namespace dovetail::gpu
