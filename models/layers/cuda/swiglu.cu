// Elementwise, one vector of 16 bytes at a time; the rows that count are known on the device only.
#include <algorithm>

#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"
#include "models/layers/cuda/bf16.cuh"
#include "models/layers/cuda/kernels.hpp"

namespace dovetail::gpu {
namespace {

constexpr int kThreads = 256;
static_assert(kThreads * kSwigluBlocksOfSm == 2048);  // threads of an SM
constexpr int kVector = 8;

__global__ void __launch_bounds__(kThreads) swiglu(
    bf16* result, const bf16* gate_up, const std::int32_t* end, unsigned rows, unsigned vectors) {
  const unsigned real_rows = end == nullptr ? rows : min(rows, static_cast<unsigned>(max(*end, 0)));
  const unsigned count = real_rows * vectors;
  for (unsigned index = blockIdx.x * kThreads + threadIdx.x; index < count;
       index += gridDim.x * kThreads) {
    const unsigned row = index / vectors;
    // Of gate in a row of 2 * vectors; index = row * vectors + place in the row.
    const bf16* const from = gate_up + (std::int64_t{row} * vectors + index) * kVector;
    const auto gate = load_vector<kVector>(from);
    const auto up = load_vector<kVector>(from + std::int64_t{vectors} * kVector);
    Bf16Vector<kVector> product;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float value = __bfloat162float(gate.values[i]);
      const float silu = rounded(value / (1.0F + expf(-value)));
      product.values[i] = __float2bfloat16_rn(silu * __bfloat162float(up.values[i]));
    }
    store_vector<kVector>(result + std::int64_t{index} * kVector, product);
  }
}

__global__ void __launch_bounds__(kThreads)
    zero_rows(bf16* x, const std::int32_t* end, std::int64_t rows, std::int64_t vectors) {
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t index =
           max(*end, 0) * vectors + std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
       index < rows * vectors;
       index += step) {
    store_vector<kVector>(x + index * kVector, Bf16Vector<kVector>{});
  }
}

unsigned blocks_for(std::int64_t vectors, std::int64_t limit) {
  return static_cast<unsigned>(std::min((vectors + kThreads - 1) / kThreads, limit));
}

}  // namespace

void launch_swiglu(void* result,
                   const void* gate_up,
                   const std::int32_t* end,
                   std::int64_t rows,
                   std::int64_t size,
                   std::int64_t most_blocks,
                   cudaStream_t stream) {
  DOVETAIL_CHECK(size % kVector == 0, "swiglu: size of a row");
  const std::int64_t vectors = rows * (size / kVector);
  if (vectors == 0) {
    return;
  }
  // A step of the grid beyond the last vector must not wrap around.
  DOVETAIL_CHECK(vectors < (std::int64_t{1} << 31), "swiglu: number of elements");
  swiglu<<<blocks_for(vectors, most_blocks), kThreads, 0, stream>>>(
      static_cast<bf16*>(result),
      static_cast<const bf16*>(gate_up),
      end,
      static_cast<unsigned>(rows),
      static_cast<unsigned>(size / kVector));
  check_cuda(cudaGetLastError(), "launch of swiglu");
}

void launch_zero_rows(
    void* x, const std::int32_t* end, std::int64_t rows, std::int64_t size, cudaStream_t stream) {
  // Few rows are padding: a small grid that finds nothing to do is soon over.
  constexpr std::int64_t most_blocks = 64;
  DOVETAIL_CHECK(size % kVector == 0, "zero_rows: size of a row");
  const std::int64_t vectors = rows * (size / kVector);
  if (vectors == 0) {
    return;
  }
  zero_rows<<<blocks_for(vectors, most_blocks), kThreads, 0, stream>>>(
      static_cast<bf16*>(x), end, rows, size / kVector);
  check_cuda(cudaGetLastError(), "launch of zero_rows");
}

}  // namespace dovetail::gpu
