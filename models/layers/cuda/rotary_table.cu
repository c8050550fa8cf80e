// One thread an angle. cosf and sinf, not their fast forms: at position 40000 those are useless.
#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"
#include "models/layers/cuda/bf16.cuh"
#include "models/layers/cuda/kernels.hpp"

namespace dovetail::gpu {
namespace {

constexpr int kThreads = 256;

__global__ void rotary_table(bf16* table,
                             const std::int64_t* positions,
                             std::int64_t position_stride,
                             const std::int64_t* position_rows,
                             const float* frequencies,
                             float scale,
                             std::int64_t angles,
                             int per_token) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= angles) {
    return;
  }
  const std::int64_t token = index / per_token;
  const auto frequency = static_cast<int>(index % per_token);
  const std::int64_t row = position_rows == nullptr ? 0 : position_rows[frequency];
  const auto position = static_cast<float>(positions[row * position_stride + token]);
  const float angle = __fmul_rn(position, frequencies[frequency]);
  table[index] = __float2bfloat16_rn(cosf(angle) * scale);
  table[angles + index] = __float2bfloat16_rn(sinf(angle) * scale);
}

}  // namespace

void launch_rotary_table(const RotaryTableArguments& arguments, cudaStream_t stream) {
  const std::int64_t angles = arguments.tokens * arguments.num_frequencies;
  if (angles == 0) {
    return;
  }
  const std::int64_t blocks = (angles + kThreads - 1) / kThreads;
  DOVETAIL_CHECK(blocks < (std::int64_t{1} << 31), "rotary table: number of angles");
  rotary_table<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(
      static_cast<bf16*>(arguments.table),
      arguments.positions,
      arguments.position_stride,
      arguments.position_rows,
      arguments.frequencies,
      arguments.scale,
      angles,
      static_cast<int>(arguments.num_frequencies));
  check_cuda(cudaGetLastError(), "launch of rotary_table");
}

}  // namespace dovetail::gpu
