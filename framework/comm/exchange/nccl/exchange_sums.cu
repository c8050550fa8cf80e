// The sums of a device exchange, on both sides.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "framework/comm/exchange/nccl/exchange_device.cuh"
#include "framework/cuda/check.hpp"

namespace dovetail {
namespace {

using device::block_rows;
using device::grid_of;
using device::head_of;
using device::is_aligned;
using device::kMostCtas;
using device::kRowThreads;
using device::num_ctas;
using device::Unit;

__device__ float to_float(float value) {
  return value;
}

__device__ float to_float(__nv_bfloat16 value) {
  return __bfloat162float(value);
}

__device__ float to_float(__half value) {
  return __half2float(value);
}

template <class T>
__device__ T from_float(float value);

template <>
__device__ float from_float<float>(float value) {
  return value;
}

template <>
__device__ __nv_bfloat16 from_float<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

template <>
__device__ __half from_float<__half>(float value) {
  return __float2half_rn(value);
}

// Unit `i` of the sum of weights[j] * row j over k choices in ascending order: products are rounded
// before they are added, the first is stored, and the sum is rounded once. Row j begins at unit
// starts[j] of `in`, -1 = there is none; zero where there is none at all.
template <class T, int N>
__device__ Unit<T, N> weighted_sum(
    const Unit<T, N>* in, const std::int64_t* starts, const float* weights, int k, std::int64_t i) {
  float sum[N] = {};
  bool started = false;
  for (int j = 0; j < k; ++j) {
    if (starts[j] < 0) {
      continue;
    }
    const Unit<T, N> unit = in[starts[j] + i];
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const float term = __fmul_rn(weights[j], to_float(unit.values[n]));
      sum[n] = started ? __fadd_rn(sum[n], term) : term;
    }
    started = true;
  }
  Unit<T, N> rounded;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    rounded.values[n] = from_float<T>(sum[n]);
  }
  return rounded;
}

// A CTA takes an arrived row; a thread takes units of N elements of its partial sum.
template <class T, int N>
__global__ void __launch_bounds__(kRowThreads) reduce_kernel(ReduceArgs args) {
  __shared__ std::int64_t starts[kMaxDeviceTopK];
  __shared__ float weights[kMaxDeviceTopK];
  const auto& arrivals = args.arrivals;
  const auto& block = arrivals.block;
  const int k = static_cast<int>(block.top_k);
  const std::int64_t source = blockIdx.y;
  const auto* head = head_of(arrivals, source);
  const auto num_rows = block_rows(head, block);
  const auto units = block.row_bytes / static_cast<std::int64_t>(sizeof(T) * N);
  const auto* in = static_cast<const Unit<T, N>*>(args.expert_rows);
  auto* out = reinterpret_cast<Unit<T, N>*>(
      (source == arrivals.ep_rank ? args.received_back : args.send_back) +
      source * block.returned_bytes());
  for (std::int64_t row = blockIdx.x; row < num_rows; row += gridDim.x) {
    const int choice = static_cast<int>(threadIdx.x);
    if (choice < k) {
      const auto* metadata = head + block.header_bytes() / 4 + row * block.metadata_words();
      const std::int64_t expert_row =
          args.choice_rows[(source * block.capacity + row) * k + choice];
      starts[choice] = expert_row < 0 ? -1 : expert_row * units;
      weights[choice] = __int_as_float(metadata[k + choice]);
    }
    __syncthreads();
    bool any = false;
    for (int j = 0; j < k; ++j) {
      any = any || starts[j] >= 0;
    }
    for (std::int64_t i = threadIdx.x; any && i < units; i += blockDim.x) {
      out[row * units + i] = weighted_sum(in, starts, weights, k, i);
    }
    __syncthreads();  // the next row writes starts
  }
}

// A CTA takes a token, and adds the partial sums of its ranks.
template <class T, int N>
__global__ void __launch_bounds__(kRowThreads) finish_kernel(FinishArgs args) {
  const auto units = args.block.row_bytes / static_cast<std::int64_t>(sizeof(T) * N);
  const auto ranks = args.layout.ep_size;
  auto* out = static_cast<Unit<T, N>*>(args.output);
  for (std::int64_t token = blockIdx.x; token < args.num_tokens; token += gridDim.x) {
    const auto* positions = args.sender + args.layout.positions() + token * ranks;
    for (std::int64_t i = threadIdx.x; i < units; i += blockDim.x) {
      float sum[N] = {};
      bool started = false;
      for (std::int64_t rank = 0; rank < ranks; ++rank) {
        const std::int64_t position = positions[rank];
        if (position < 0) {
          continue;
        }
        const auto* part = reinterpret_cast<const Unit<T, N>*>(args.received_back +
                                                               rank * args.block.returned_bytes());
        const Unit<T, N> unit = part[position * units + i];
#pragma unroll
        for (int n = 0; n < N; ++n) {
          const float term = to_float(unit.values[n]);
          sum[n] = started ? __fadd_rn(sum[n], term) : term;
        }
        started = true;
      }
      Unit<T, N> rounded;
#pragma unroll
      for (int n = 0; n < N; ++n) {
        rounded.values[n] = from_float<T>(sum[n]);
      }
      out[token * units + i] = rounded;
    }
  }
}

// A CTA takes a token, and sums the rows of its choices, whichever rank they come from.
template <class T, int N>
__global__ void __launch_bounds__(kRowThreads) finish_choices_kernel(FinishArgs args) {
  __shared__ std::int64_t starts[kMaxDeviceTopK];
  __shared__ float weights[kMaxDeviceTopK];
  constexpr auto unit_bytes = static_cast<std::int64_t>(sizeof(T) * N);
  const auto& layout = args.layout;
  const int k = static_cast<int>(layout.top_k);
  const auto experts_per_rank = layout.num_experts / layout.ep_size;
  const auto units = args.block.row_bytes / unit_bytes;
  const auto units_of_rank = args.block.returned_bytes() / unit_bytes;
  const auto* in = reinterpret_cast<const Unit<T, N>*>(args.received_back);
  auto* out = static_cast<Unit<T, N>*>(args.output);
  for (std::int64_t token = blockIdx.x; token < args.num_tokens; token += gridDim.x) {
    if (static_cast<int>(threadIdx.x) < k) {
      const auto choice = token * k + threadIdx.x;
      const std::int64_t expert = args.sender[layout.experts() + choice];
      const std::int64_t place = args.sender[layout.places() + choice];
      starts[threadIdx.x] =
          expert < 0 || place < 0 ? -1 : expert / experts_per_rank * units_of_rank + place * units;
      weights[threadIdx.x] = __int_as_float(args.sender[layout.weights() + choice]);
    }
    __syncthreads();
    for (std::int64_t i = threadIdx.x; i < units; i += blockDim.x) {
      out[token * units + i] = weighted_sum(in, starts, weights, k, i);
    }
    __syncthreads();  // the next token writes starts
  }
}

template <class T>
void reduce_as(const ReduceArgs& args, cudaStream_t stream) {
  constexpr int wide = 16 / sizeof(T);
  const auto grid = grid_of(args.arrivals);
  if (args.arrivals.block.row_bytes % 16 == 0 && is_aligned(args.expert_rows)) {
    reduce_kernel<T, wide><<<grid, kRowThreads, 0, stream>>>(args);
  } else {
    reduce_kernel<T, 1><<<grid, kRowThreads, 0, stream>>>(args);
  }
}

template <class T, int N>
void finish_in_units(const FinishArgs& args, cudaStream_t stream) {
  const auto grid = static_cast<unsigned>(num_ctas(args.num_tokens, kMostCtas));
  if (args.layout.returns_choices) {
    finish_choices_kernel<T, N><<<grid, kRowThreads, 0, stream>>>(args);
  } else {
    finish_kernel<T, N><<<grid, kRowThreads, 0, stream>>>(args);
  }
}

template <class T>
void finish_as(const FinishArgs& args, cudaStream_t stream) {
  constexpr int wide = 16 / sizeof(T);
  if (args.block.row_bytes % 16 == 0 && is_aligned(args.output)) {
    finish_in_units<T, wide>(args, stream);
  } else {
    finish_in_units<T, 1>(args, stream);
  }
}

}  // namespace

void launch_reduce(const ReduceArgs& args, cudaStream_t stream) {
  switch (args.type) {
    case RowType::float32:
      reduce_as<float>(args, stream);
      break;
    case RowType::bfloat16:
      reduce_as<__nv_bfloat16>(args, stream);
      break;
    case RowType::float16:
      reduce_as<__half>(args, stream);
      break;
  }
  check_cuda(cudaGetLastError(), "launch of the exchange's reduce");
}

void launch_finish(const FinishArgs& args, cudaStream_t stream) {
  if (args.num_tokens == 0) {
    return;
  }
  switch (args.type) {
    case RowType::float32:
      finish_as<float>(args, stream);
      break;
    case RowType::bfloat16:
      finish_as<__nv_bfloat16>(args, stream);
      break;
    case RowType::float16:
      finish_as<__half>(args, stream);
      break;
  }
  check_cuda(cudaGetLastError(), "launch of the exchange's finish");
}

}  // namespace dovetail
