#include "models/layers/attention.hpp"

#include "framework/base/check.hpp"
#include "models/layers/cuda/layers.hpp"
#include "models/layers/paged_context.hpp"
#include "models/layers/products.hpp"
#include "models/layers/rms_norm.hpp"
#include "models/layers/rotary.hpp"

namespace dovetail {

at::Tensor self_attention(const AttentionDims& dims,
                          const AttentionWeights& weights,
                          const at::Tensor& x,
                          const at::Tensor& rotary,
                          const UbatchInputs& inputs,
                          at::Tensor& keys,
                          at::Tensor& values,
                          Numerics numerics) {
  if constexpr (gpu::kIsBuilt) {
    if (gpu::serves(x)) {
      return gpu::self_attention(dims, weights, x, rotary, inputs, keys, values, numerics);
    }
  }
  const std::int64_t num_tokens = x.size(0);
  DOVETAIL_CHECK_EQ(rotary.size(1), num_tokens);
  const at::Tensor qkv = project(x, weights.qkv, weights.qkv_bias, numerics)
                             .view({num_tokens, dims.heads + 2 * dims.kv_heads, dims.head_dim});
  const auto normed_and_turned =
      [&](std::int64_t first_head, std::int64_t num_heads, const at::Tensor& norm) {
        const at::Tensor heads = qkv.narrow(1, first_head, num_heads);
        return rotate(norm.defined() ? rms_norm(heads, norm, dims.norm_epsilon, numerics) : heads,
                      rotary,
                      numerics);
      };
  const at::Tensor queries = normed_and_turned(0, dims.heads, weights.q_norm);
  write_cache(inputs, normed_and_turned(dims.heads, dims.kv_heads, weights.k_norm), keys);
  write_cache(inputs, qkv.narrow(1, dims.heads + dims.kv_heads, dims.kv_heads), values);
  const at::Tensor attended =
      attend_to_context(queries, inputs.segments, inputs.block_tables, keys, values, numerics);
  return project(attended.view({num_tokens, dims.heads * dims.head_dim}),
                 weights.output,
                 weights.output_bias,
                 numerics);
}

}  // namespace dovetail
