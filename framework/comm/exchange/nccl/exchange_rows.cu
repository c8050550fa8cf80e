// The receiver's side of a device exchange, and the sums of both sides.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "framework/comm/exchange/nccl/exchange_device.cuh"
#include "framework/cuda/check.hpp"

namespace dovetail {
namespace {

using device::block_prefix;
using device::block_rows;
using device::head_of;
using device::is_aligned;
using device::kMostCtas;
using device::kRowThreads;
using device::kScanThreads;
using device::kWarp;
using device::num_ctas;
using device::Unit;

// CTAs per source rank in kernels whose grid is (rows, source).
constexpr std::int64_t kMostCtasPerSource = 528;

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

// One CTA: first row of each (local expert, source), and the ends of the experts.
__global__ void __launch_bounds__(kScanThreads) offsets_kernel(ArrangeArgs args) {
  __shared__ int sums[kWarp];
  const auto& arrivals = args.arrivals;
  const std::int64_t ranks = arrivals.ep_size;
  const std::int64_t pairs = ranks * arrivals.experts_per_rank;
  const std::int64_t first_expert =
      static_cast<std::int64_t>(arrivals.ep_rank) * arrivals.experts_per_rank;
  std::int64_t running = 0;
  for (std::int64_t chunk = 0; chunk < pairs; chunk += blockDim.x) {
    const auto pair = chunk + threadIdx.x;
    const auto expert = pair / ranks;
    const auto source = pair % ranks;
    int count = 0;
    if (pair < pairs) {
      count = head_of(arrivals, source)[BlockLayout::kFirstCount + first_expert + expert];
      count = count < 0 ? 0 : count;
    }
    int total = 0;
    const auto begin = running + block_prefix(count, sums, total);
    if (pair < pairs) {
      const auto end = begin + count;
      args.bases[pair] = static_cast<std::int32_t>(begin < args.row_limit ? begin : args.row_limit);
      if (source == ranks - 1) {
        args.offsets[expert] =
            static_cast<std::int32_t>(end < args.row_limit ? end : args.row_limit);
      }
    }
    running += total;
  }
}

// A CTA takes an arrived row: reads it once and writes it for each of its local choices.
template <class Word>
__global__ void __launch_bounds__(kRowThreads) copy_kernel(ArrangeArgs args) {
  __shared__ std::int64_t target[kMaxDeviceTopK];
  const auto& arrivals = args.arrivals;
  const auto& block = arrivals.block;
  const int k = static_cast<int>(block.top_k);
  const std::int64_t source = blockIdx.y;
  const auto* head = head_of(arrivals, source);
  const auto num_rows = block_rows(head, block);
  const auto words = block.row_bytes / static_cast<std::int64_t>(sizeof(Word));
  const auto* payload = reinterpret_cast<const Word*>(
      arrivals.blocks + source * block.block_bytes() + block.payload_begin());
  const std::int64_t first_expert =
      static_cast<std::int64_t>(arrivals.ep_rank) * arrivals.experts_per_rank;
  for (std::int64_t row = blockIdx.x; row < num_rows; row += gridDim.x) {
    const int choice = static_cast<int>(threadIdx.x);
    if (choice < k) {
      const auto* metadata = head + block.header_bytes() / 4 + row * block.metadata_words();
      const std::int64_t expert = metadata[choice];
      const auto local = expert - first_expert;
      std::int64_t to = -1;
      if (expert >= 0 && local >= 0 && local < arrivals.experts_per_rank) {
        to = static_cast<std::int64_t>(args.bases[local * arrivals.ep_size + source]) +
             metadata[2 * k + choice];
        to = to < args.row_limit ? to : -1;
      }
      target[choice] = to;
      args.choice_rows[(source * block.capacity + row) * k + choice] =
          static_cast<std::int32_t>(to);
    }
    __syncthreads();
    bool any = false;
    for (int j = 0; j < k; ++j) {
      any = any || target[j] >= 0;
    }
    for (std::int64_t i = threadIdx.x; any && i < words; i += blockDim.x) {
      const Word word = payload[row * words + i];
      for (int j = 0; j < k; ++j) {
        if (target[j] >= 0) {
          reinterpret_cast<Word*>(args.rows)[target[j] * words + i] = word;
        }
      }
    }
    __syncthreads();  // the next row writes target
  }
}

// A CTA takes an arrived row; a thread takes units of N elements of its partial sum.
template <class T, int N>
__global__ void __launch_bounds__(kRowThreads) reduce_kernel(ReduceArgs args) {
  __shared__ std::int64_t chosen[kMaxDeviceTopK];
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
      source * block.part_bytes());
  for (std::int64_t row = blockIdx.x; row < num_rows; row += gridDim.x) {
    const int choice = static_cast<int>(threadIdx.x);
    if (choice < k) {
      const auto* metadata = head + block.header_bytes() / 4 + row * block.metadata_words();
      chosen[choice] = args.choice_rows[(source * block.capacity + row) * k + choice];
      weights[choice] = __int_as_float(metadata[k + choice]);
    }
    __syncthreads();
    bool any = false;
    for (int j = 0; j < k; ++j) {
      any = any || chosen[j] >= 0;
    }
    for (std::int64_t i = threadIdx.x; any && i < units; i += blockDim.x) {
      float sum[N];
      bool started = false;
      for (int j = 0; j < k; ++j) {
        if (chosen[j] < 0) {
          continue;
        }
        const Unit<T, N> unit = in[chosen[j] * units + i];
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
      out[row * units + i] = rounded;
    }
    __syncthreads();  // the next row writes chosen
  }
}

// A CTA takes a token.
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
                                                               rank * args.block.part_bytes());
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

dim3 grid_of(const Arrivals& arrivals) {
  return {static_cast<unsigned>(num_ctas(arrivals.block.capacity, kMostCtasPerSource)),
          static_cast<unsigned>(arrivals.ep_size),
          1};
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

template <class T>
void finish_as(const FinishArgs& args, cudaStream_t stream) {
  constexpr int wide = 16 / sizeof(T);
  const auto grid = static_cast<unsigned>(num_ctas(args.num_tokens, kMostCtas));
  if (args.block.row_bytes % 16 == 0 && is_aligned(args.output)) {
    finish_kernel<T, wide><<<grid, kRowThreads, 0, stream>>>(args);
  } else {
    finish_kernel<T, 1><<<grid, kRowThreads, 0, stream>>>(args);
  }
}

}  // namespace

void launch_arrange(const ArrangeArgs& args, cudaStream_t stream) {
  offsets_kernel<<<1, kScanThreads, 0, stream>>>(args);
  check_cuda(cudaGetLastError(), "launch of the exchange's offsets");
  const auto grid = grid_of(args.arrivals);
  if (args.arrivals.block.row_bytes % 16 == 0 && is_aligned(args.rows)) {
    copy_kernel<uint4><<<grid, kRowThreads, 0, stream>>>(args);
  } else {
    copy_kernel<std::uint16_t><<<grid, kRowThreads, 0, stream>>>(args);
  }
  check_cuda(cudaGetLastError(), "launch of the exchange's copy to expert rows");
}

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
