#include "models/layers/cuda/attention_bench.hpp"

#include "framework/base/error.hpp"

#ifndef DOVETAIL_WITH_CUDA

namespace dovetail {

std::vector<BenchResult> bench_attention(int /*num_samples*/) {
  throw InputError("bench attention needs a GPU, and this build is without CUDA");
}

}  // namespace dovetail

#else

#include <cstdint>
#include <functional>
#include <string>
#include <tuple>
#include <utility>

#include <ATen/cuda/CUDAEvent.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>
#include <c10/cuda/CUDAStream.h>

#include "framework/cuda/devices.hpp"
#include "framework/cuda/num_sms.hpp"
#include "models/layers/cuda/kernels.hpp"

namespace dovetail {
namespace {

constexpr float kScale = 0.07F;

cudaStream_t stream() {
  return c10::cuda::getCurrentCUDAStream().stream();
}

at::TensorOptions bf16_on_gpu() {
  return at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
}

at::Tensor int32_range(std::int64_t count, std::int64_t step) {
  return at::arange(0, count * step, step, bf16_on_gpu().dtype(at::kInt));
}

/// Milliseconds of each of some calls, behind warm-ups.
std::vector<double> milliseconds(int num_samples, const std::function<void()>& call) {
  std::vector<double> samples;
  for (int i = -5; i < num_samples; ++i) {
    at::cuda::CUDAEvent begin(cudaEventDefault);
    at::cuda::CUDAEvent end(cudaEventDefault);
    begin.record();
    call();
    end.record();
    end.synchronize();
    if (i >= 0) {
      samples.push_back(begin.elapsed_time(end));
    }
  }
  return samples;
}

class AttentionBench {
 public:
  explicit AttentionBench(int num_samples) : num_samples_(num_samples) {}

  std::vector<BenchResult> take() {
    ceilings();
    prefill("4 x 4096, 128 heads of 192 and 128 (DeepSeek-V3)", 4, 4096, 128, 128, 64);
    prefill("4 x 4096, 16 heads of 192 and 128 (DeepSeek-V2-Lite)", 4, 4096, 16, 16, 64);
    prefill("4 x 2048, 32 heads of 4 x 128 (Qwen3-30B-A3B)", 4, 2048, 32, 4, 0);
    prefill("1 x 8192, 32 heads of 4 x 128 (Qwen3-30B-A3B)", 1, 8192, 32, 4, 0);
    latent_decode("128 requests, 4096 keys, 128 heads (DeepSeek-V3)", 128, 4096, 128);
    latent_decode("128 requests, 4096 keys, 64 heads (Kimi-K2)", 128, 4096, 64);
    latent_decode("128 requests, 4096 keys, 16 heads (DeepSeek-V2-Lite)", 128, 4096, 16);
    latent_decode("32 requests, 16384 keys, 128 heads (DeepSeek-V3)", 32, 16384, 128);
    return std::move(results_);
  }

 private:
  /// amount: of what is counted, in 10^9 a call.
  void add(const std::string& variant,
           const std::string& quantity,
           double amount,
           std::vector<double> ms) {
    for (auto& sample : ms) {
      sample = amount / sample;
    }
    results_.push_back(summarize("attention", variant, quantity, std::move(ms)));
  }

  void ceilings() {
    const at::Tensor square = at::randn({8192, 8192}, bf16_on_gpu());
    at::Tensor product = at::empty_like(square);
    add("product 8192 x 8192 x 8192",
        "TFLOP/s",
        2 * 8192.0 * 8192.0 * 8192.0 / 1e9,
        milliseconds(num_samples_, [&] { at::matmul_out(product, square, square); }));
    const at::Tensor from = at::empty({std::int64_t{1} << 29}, bf16_on_gpu());
    at::Tensor to = at::empty_like(from);
    add("copy of 1 GiB",
        "TB/s",
        2 * static_cast<double>(from.nbytes()) / 1e9,
        milliseconds(num_samples_, [&] { to.copy_(from); }));
  }

  void prefill(const std::string& what,
               std::int64_t requests,
               std::int64_t length,
               std::int64_t heads,
               std::int64_t kv_heads,
               std::int64_t shared_dim) {
    const std::int64_t rows = requests * length;
    const std::int64_t key_dim = 128 + shared_dim;
    const at::Tensor queries = at::randn({rows, heads, key_dim}, bf16_on_gpu());
    const at::Tensor keys = at::randn({rows, kv_heads, key_dim}, bf16_on_gpu());
    const at::Tensor values = at::randn({rows, kv_heads, gpu::kPrefillValueDim}, bf16_on_gpu());
    const at::Tensor result = at::empty({rows, heads, gpu::kPrefillValueDim}, bf16_on_gpu());
    const at::Tensor starts = int32_range(requests + 1, length);
    const auto rows_of = [](const at::Tensor& x) {
      return gpu::AttentionRows{
          .data = x.const_data_ptr(), .token_stride = x.stride(0), .head_stride = x.stride(1)};
    };
    const double flops = static_cast<double>(requests * heads * length * length) *
                         static_cast<double>(key_dim + gpu::kPrefillValueDim);
    const auto own = [&] {
      gpu::launch_prefill_attention({.queries = rows_of(queries),
                                     .keys = rows_of(keys),
                                     .values = rows_of(values),
                                     .result = result.mutable_data_ptr(),
                                     .heads = heads,
                                     .kv_heads = kv_heads,
                                     .query_starts = starts.const_data_ptr<std::int32_t>(),
                                     .key_starts = starts.const_data_ptr<std::int32_t>(),
                                     .segments = requests,
                                     .max_query_length = length,
                                     .scale = kScale},
                                    stream());
    };
    add("prefill, " + what, "TFLOP/s", flops / 1e9, milliseconds(num_samples_, own));
    const at::Tensor padded = at::constant_pad_nd(values, {0, key_dim - values.size(2)});
    const auto flash = [&] {
      at::_flash_attention_forward(queries,
                                   keys,
                                   padded,
                                   starts,
                                   starts,
                                   length,
                                   length,
                                   /*dropout_p=*/0.0,
                                   /*is_causal=*/true,
                                   /*return_debug_mask=*/false,
                                   kScale);
    };
    add("prefill, " + what + ", LibTorch's flash attention",
        "TFLOP/s",
        flops / 1e9,
        milliseconds(num_samples_, flash));
  }

  void latent_decode(const std::string& what,
                     std::int64_t requests,
                     std::int64_t length,
                     std::int64_t heads) {
    constexpr std::int64_t page_size = 64;
    const std::int64_t pages_a_request = length / page_size;
    const at::Tensor latents =
        at::randn({requests * pages_a_request, page_size, gpu::kLatentKeyDim}, bf16_on_gpu());
    const at::Tensor tables =
        at::randperm(latents.size(0), bf16_on_gpu().dtype(at::kLong)).to(at::kInt);
    const at::Tensor queries = at::randn({requests, heads, gpu::kLatentKeyDim}, bf16_on_gpu());
    const at::Tensor result = at::empty({requests, heads, gpu::kLatentValueDim}, bf16_on_gpu());
    const at::Tensor starts = int32_range(requests + 1, 1);
    const at::Tensor lengths = at::empty_like(starts).fill_(length);
    gpu::LatentDecodeArguments arguments = {
        .queries = {.latent = queries.const_data_ptr(),
                    .latent_token_stride = queries.stride(0),
                    .latent_head_stride = queries.stride(1),
                    .rope = queries.narrow(2, gpu::kLatentValueDim, 64).const_data_ptr(),
                    .rope_token_stride = queries.stride(0),
                    .rope_head_stride = queries.stride(1)},
        .result = result.mutable_data_ptr(),
        .result_token_stride = result.stride(0),
        .result_head_stride = result.stride(1),
        .tokens = requests,
        .heads = heads,
        .latents = latents.const_data_ptr(),
        .page_size = page_size,
        .segments = {.query_starts = starts.const_data_ptr<std::int32_t>(),
                     .key_lengths = lengths.const_data_ptr<std::int32_t>(),
                     .block_tables = tables.const_data_ptr<std::int32_t>(),
                     .table_stride = pages_a_request,
                     .count = requests},
        .scale = kScale,
        .splits = gpu::latent_decode_splits(requests, heads, length, num_sms()),
        .num_sms = num_sms()};
    const at::Tensor partial =
        at::empty({gpu::latent_decode_partial_floats(arguments)}, bf16_on_gpu().dtype(at::kFloat));
    arguments.partial = partial.mutable_data_ptr<float>();
    const auto ms =
        milliseconds(num_samples_, [&] { gpu::launch_latent_decode(arguments, stream()); });
    add("decode over latents, " + what, "TB/s", static_cast<double>(latents.nbytes()) / 1e9, ms);
    add("decode over latents, " + what,
        "TFLOP/s",
        static_cast<double>(requests * length * heads) *
            static_cast<double>(2 * (gpu::kLatentKeyDim + gpu::kLatentValueDim)) / 1e9,
        ms);
  }

  int num_samples_;
  std::vector<BenchResult> results_;
};

}  // namespace

std::vector<BenchResult> bench_attention(int num_samples) {
  if (visible_gpus().empty()) {
    throw InputError("bench attention needs a GPU, and this machine has none");
  }
  return AttentionBench(num_samples).take();
}

}  // namespace dovetail

#endif
