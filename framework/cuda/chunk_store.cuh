// Floats rounded once to a tensor's element type, and stores of 16 bytes.
#pragma once

#include <cstdint>
#include <cstring>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace dovetail {

template <class Element>
inline constexpr int kChunkPlaces = static_cast<int>(16 / sizeof(Element));

/// To nearest, ties to even, as on the CPU. Element: float, __half or __nv_bfloat16.
template <class Element>
__device__ Element round_to(float value);

template <>
__device__ inline float round_to<float>(float value) {
  return value;
}

template <>
__device__ inline __half round_to<__half>(float value) {
  return __float2half_rn(value);
}

template <>
__device__ inline __nv_bfloat16 round_to<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

/// Writes one chunk at an address that is a multiple of 16.
template <class Element>
__device__ void store_chunk(Element* to, const float (&values)[kChunkPlaces<Element>]) {
  Element rounded[kChunkPlaces<Element>];
#pragma unroll
  for (int i = 0; i < kChunkPlaces<Element>; ++i) {
    rounded[i] = round_to<Element>(values[i]);
  }
  uint4 bits;
  static_assert(sizeof(bits) == sizeof(rounded));
  std::memcpy(&bits, rounded, sizeof(bits));
  // As an instruction of its own: the compiler may split a plain assignment into four stores.
  __stcg(reinterpret_cast<uint4*>(to), bits);
}

}  // namespace dovetail
