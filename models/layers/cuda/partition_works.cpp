#include "models/layers/cuda/partition_works.hpp"

#include "framework/base/error.hpp"

#ifndef DOVETAIL_WITH_CUDA

namespace dovetail {

std::vector<PartitionWork> partition_works() {
  throw InputError("bench partition needs a GPU, and this build is without CUDA");
}

}  // namespace dovetail

#else

#include <cmath>
#include <cstdint>

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <c10/cuda/CUDAStream.h>

#include "models/layers/cuda/kernels.hpp"

namespace dovetail {
namespace {

at::TensorOptions bf16_on_gpu() {
  return at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
}

gpu::AttentionRows rows_of(const at::Tensor& x) {
  return {.data = x.const_data_ptr(), .token_stride = x.stride(0), .head_stride = x.stride(1)};
}

PartitionWork product() {
  constexpr std::int64_t size = 4096;
  return {
      .name = "product 4096 x 4096 x 4096",
      .run = [x = at::randn({size, size}, bf16_on_gpu()),
              weight = at::randn({size, size}, bf16_on_gpu())] { return at::linear(x, weight); }};
}

PartitionWork prefill_attention() {
  constexpr std::int64_t requests = 4;
  constexpr std::int64_t length = 4096;
  constexpr std::int64_t rows = requests * length;
  constexpr std::int64_t heads = 128;
  constexpr std::int64_t key_dim = 192;
  const auto run = [queries = at::randn({rows, heads, key_dim}, bf16_on_gpu()),
                    keys = at::randn({rows, heads, key_dim}, bf16_on_gpu()),
                    values = at::randn({rows, heads, gpu::kPrefillValueDim}, bf16_on_gpu()),
                    starts = at::arange(0, rows + 1, length, bf16_on_gpu().dtype(at::kInt))] {
    at::Tensor result = at::empty({rows, heads, gpu::kPrefillValueDim}, bf16_on_gpu());
    gpu::launch_prefill_attention({.queries = rows_of(queries),
                                   .keys = rows_of(keys),
                                   .values = rows_of(values),
                                   .result = result.mutable_data_ptr(),
                                   .heads = heads,
                                   .kv_heads = heads,
                                   .query_starts = starts.const_data_ptr<std::int32_t>(),
                                   .key_starts = starts.const_data_ptr<std::int32_t>(),
                                   .segments = requests,
                                   .max_query_length = length,
                                   .scale = 1.0F / std::sqrt(static_cast<float>(key_dim))},
                                  c10::cuda::getCurrentCUDAStream().stream());
    return result;
  };
  return {.name = "attention 4 x 4096", .run = run};
}

}  // namespace

std::vector<PartitionWork> partition_works() {
  return {product(), prefill_attention()};
}

}  // namespace dovetail

#endif
