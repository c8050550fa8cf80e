// A short row is normed by one warp, a long one by a block; each row is read once, into registers.
#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/time_stamp.cuh"
#include "framework/cuda/time_stamp.hpp"
#include "models/layers/cuda/bf16.cuh"
#include "models/layers/cuda/kernels.hpp"

namespace dovetail::gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kVector = 8;

/// The part of a row that one thread holds: vectors first, first + step, ... below `count`.
template <int kVectors>
struct RowPart {
  Bf16Vector<kVector> vectors[kVectors];

  __device__ float load(const bf16* row, int first, int step, int count) {
    float squares = 0;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      const int index = first + i * step;
      if (index < count) {
        vectors[i] = load_vector<kVector>(row + index * kVector);
#pragma unroll
        for (int j = 0; j < kVector; ++j) {
          const float value = __bfloat162float(vectors[i].values[j]);
          squares += value * value;
        }
      }
    }
    return squares;
  }

  __device__ void store(
      bf16* row, const bf16* weight, float scale, int first, int step, int count) const {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      const int index = first + i * step;
      if (index < count) {
        const auto factors = load_vector<kVector>(weight + index * kVector);
        Bf16Vector<kVector> result;
#pragma unroll
        for (int j = 0; j < kVector; ++j) {
          const float normed = rounded(__bfloat162float(vectors[i].values[j]) * scale);
          result.values[j] = __float2bfloat16_rn(normed * __bfloat162float(factors.values[j]));
        }
        store_vector<kVector>(row + index * kVector, result);
      }
    }
  }
};

/// size <= 256: a warp a row.
__global__ void __launch_bounds__(kThreads) norm_short_rows(bf16* result,
                                                            const bf16* x,
                                                            const bf16* weight,
                                                            float epsilon,
                                                            std::int64_t rows,
                                                            int size,
                                                            std::uint64_t* time_stamp) {
  write_time_stamp(time_stamp);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * (kThreads / kWarpSize) + threadIdx.x / kWarpSize;
  if (row >= rows) {
    return;  // the whole warp
  }
  RowPart<1> part;
  const float squares =
      sum_over_lanes<kWarpSize>(part.load(x + row * size, lane, kWarpSize, size / kVector));
  const float scale = rsqrtf(squares / static_cast<float>(size) + epsilon);
  part.store(result + row * size, weight, scale, lane, kWarpSize, size / kVector);
}

/// A block a row.
template <int kVectors>
__global__ void __launch_bounds__(kThreads) norm_long_rows(bf16* result,
                                                           const bf16* x,
                                                           const bf16* weight,
                                                           float epsilon,
                                                           int size,
                                                           std::uint64_t* time_stamp) {
  write_time_stamp(time_stamp);
  __shared__ float of_warp[kThreads / kWarpSize];
  const std::int64_t row = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x);
  RowPart<kVectors> part;
  const float squares =
      sum_over_lanes<kWarpSize>(part.load(x + row * size, thread, kThreads, size / kVector));
  if (thread % kWarpSize == 0) {
    of_warp[thread / kWarpSize] = squares;
  }
  __syncthreads();
  float total = 0;
#pragma unroll
  for (int warp = 0; warp < kThreads / kWarpSize; ++warp) {
    total += of_warp[warp];
  }
  const float scale = rsqrtf(total / static_cast<float>(size) + epsilon);
  part.store(result + row * size, weight, scale, thread, kThreads, size / kVector);
}

}  // namespace

void launch_rms_norm(void* result,
                     const void* x,
                     const void* weight,
                     float epsilon,
                     std::int64_t rows,
                     std::int64_t size,
                     cudaStream_t stream) {
  DOVETAIL_CHECK(size % kVector == 0 && size <= kMaxNormSize, "rms_norm: size of a row");
  if (rows == 0 || size == 0) {
    return;
  }
  DOVETAIL_CHECK(rows < (std::int64_t{1} << 31), "rms_norm: number of rows");
  auto* to = static_cast<bf16*>(result);
  const auto* from = static_cast<const bf16*>(x);
  const auto* factors = static_cast<const bf16*>(weight);
  const int length = static_cast<int>(size);
  const auto blocks = static_cast<unsigned>(rows);
  auto* stamp = take_time_stamp(stream);
  constexpr std::int64_t per_vector = kThreads * kVector;  // elements if each thread holds one
  if (size <= kWarpSize * kVector) {
    constexpr unsigned rows_per_block = kThreads / kWarpSize;
    norm_short_rows<<<(blocks + rows_per_block - 1) / rows_per_block, kThreads, 0, stream>>>(
        to, from, factors, epsilon, rows, length, stamp);
  } else if (size <= per_vector) {
    norm_long_rows<1><<<blocks, kThreads, 0, stream>>>(to, from, factors, epsilon, length, stamp);
  } else if (size <= 2 * per_vector) {
    norm_long_rows<2><<<blocks, kThreads, 0, stream>>>(to, from, factors, epsilon, length, stamp);
  } else if (size <= 4 * per_vector) {
    norm_long_rows<4><<<blocks, kThreads, 0, stream>>>(to, from, factors, epsilon, length, stamp);
  } else {
    norm_long_rows<8><<<blocks, kThreads, 0, stream>>>(to, from, factors, epsilon, length, stamp);
  }
  check_cuda(cudaGetLastError(), "launch of rms_norm");
}

}  // namespace dovetail::gpu
