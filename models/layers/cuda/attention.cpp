// Self-attention in bfloat16 on a GPU. Queries and keys are normed and turned where the projection
// wrote them; attention reads them there, or out of the cache:
// - at most one query a segment (decode): an own kernel over the pages;
// - no context: prefill attention over the ubatch's own keys and values;
// - else: pages gathered into rows, then prefill attention. Its causal mask is aligned to the last
//   key of a segment, so a query sees the context and the queries up to itself.
// Prefill attention is an own kernel for heads of 128, flash attention for others.
#include <cmath>
#include <tuple>

#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAStream.h>

#include "framework/base/check.hpp"
#include "framework/cuda/num_sms.hpp"
#include "models/layers/cuda/kernels.hpp"
#include "models/layers/cuda/layers.hpp"
#include "models/layers/cuda/segments.hpp"
#include "models/layers/products.hpp"

namespace dovetail::gpu {
namespace {

cudaStream_t stream() {
  return c10::cuda::getCurrentCUDAStream().stream();
}

/// Everything that attention needs besides queries, keys and values of the ubatch.
struct Context {
  const AttentionDims& dims;
  const UbatchInputs& inputs;
  const at::Tensor& keys;
  const at::Tensor& values;
  DeviceSegments segments;
  PagedKeys cache;
  float scale;
  Numerics numerics;
};

PagedKeys paged(const AttentionDims& dims, const at::Tensor& keys, const at::Tensor& values) {
  DOVETAIL_CHECK(keys.is_contiguous() && values.is_contiguous() && keys.sizes() == values.sizes() &&
                     keys.size(2) == dims.kv_heads && keys.size(3) == dims.head_dim,
                 "the cache must be [pages, page_size, kv_heads, head_dim], contiguous");
  DOVETAIL_CHECK(keys.scalar_type() == at::kBFloat16 && values.scalar_type() == at::kBFloat16,
                 "the cache has another dtype");
  DOVETAIL_CHECK(keys.size(0) * keys.size(1) < (std::int64_t{1} << 31), "too many slots");
  return {.keys = keys.const_data_ptr(),
          .values = values.const_data_ptr(),
          .page_size = keys.size(1),
          .kv_heads = dims.kv_heads,
          .head_dim = dims.head_dim};
}

/// Projected heads of the ubatch [T, heads + 2 kv_heads, head_dim] -> [T, heads, head_dim].
at::Tensor decode(const Context& context, const at::Tensor& qkv) {
  const AttentionDims& dims = context.dims;
  at::Tensor result = at::empty({qkv.size(0), dims.heads, dims.head_dim}, qkv.options());
  DecodeArguments arguments = {.queries = qkv.const_data_ptr(),
                               .query_stride = qkv.size(1) * qkv.size(2),
                               .result = result.mutable_data_ptr(),
                               .tokens = qkv.size(0),
                               .heads = dims.heads,
                               .cache = context.cache,
                               .segments = context.segments,
                               .scale = context.scale};
  const std::int64_t max_key_length = context.inputs.on_device.max_key_length;
  if (context.numerics == Numerics::batch_invariant) {
    arguments.split_by = DecodeSplit::length;
    arguments.splits = decode_splits_by_length(max_key_length);
  } else {
    arguments.splits = decode_splits(context.segments.count,
                                     dims.kv_heads,
                                     dims.heads / dims.kv_heads,
                                     max_key_length,
                                     num_sms());
  }
  at::Tensor partial;
  if (arguments.splits > 1) {
    partial = at::empty({decode_partial_floats(arguments)}, qkv.options().dtype(at::kFloat));
    arguments.partial = partial.mutable_data_ptr<float>();
  }
  launch_decode_attention(arguments, stream());
  return result;
}

/// result [T, heads, head_dim]; rows outside of all segments are left alone.
void own_prefill(const Context& context,
                 const at::Tensor& queries,
                 const at::Tensor& keys,
                 const at::Tensor& values,
                 const at::Tensor& key_starts,
                 const at::Tensor& result) {
  launch_prefill_attention({.queries = rows_of(queries),
                            .keys = rows_of(keys),
                            .values = rows_of(values),
                            .result = result.mutable_data_ptr(),
                            .heads = queries.size(1),
                            .kv_heads = keys.size(1),
                            .query_starts = context.segments.query_starts,
                            .key_starts = key_starts.const_data_ptr<std::int32_t>(),
                            .segments = context.segments.count,
                            .max_query_length = context.inputs.on_device.max_query_length,
                            .scale = context.scale},
                           stream());
}

at::Tensor prefill(const Context& context,
                   const at::Tensor& queries,
                   const at::Tensor& keys,
                   const at::Tensor& values,
                   const at::Tensor& key_starts,
                   std::int64_t max_key_length) {
  const SegmentTensors& on_device = context.inputs.on_device;
  at::Tensor result;
  if (prefill_attention_takes(queries.size(2), 0, values.size(2))) {
    result = at::empty({queries.size(0), queries.size(1), values.size(2)}, queries.options());
    own_prefill(context, queries, keys, values, key_starts, result);
  } else {
    result = std::get<0>(at::_flash_attention_forward(queries,
                                                      keys,
                                                      values,
                                                      on_device.query_starts,
                                                      key_starts,
                                                      on_device.max_query_length,
                                                      max_key_length,
                                                      /*dropout_p=*/0.0,
                                                      /*is_causal=*/true,
                                                      /*return_debug_mask=*/false,
                                                      context.scale));
    DOVETAIL_CHECK(result.is_contiguous(), "flash attention's result is not contiguous");
  }
  launch_zero_rows(result.mutable_data_ptr(),
                   context.segments.query_starts + context.segments.count,
                   result.size(0),
                   result.size(1) * result.size(2),
                   stream());
  return result;
}

at::Tensor prefill_over_context(const Context& context, const at::Tensor& queries) {
  const SegmentTensors& on_device = context.inputs.on_device;
  const AttentionDims& dims = context.dims;
  at::Tensor keys =
      at::empty({on_device.max_keys, dims.kv_heads, dims.head_dim}, queries.options());
  at::Tensor values = at::empty(keys.sizes(), keys.options());
  launch_gather_keys(keys.mutable_data_ptr(),
                     values.mutable_data_ptr(),
                     context.cache,
                     context.segments,
                     on_device.max_key_length,
                     stream());
  return prefill(context, queries, keys, values, on_device.key_starts, on_device.max_key_length);
}

at::Tensor attend(const Context& context, const at::Tensor& qkv) {
  const AttentionDims& dims = context.dims;
  const SegmentTensors& on_device = context.inputs.on_device;
  if (on_device.max_query_length <= 1) {
    return decode(context, qkv);
  }
  if (context.segments.count == 0) {
    return at::zeros({qkv.size(0), dims.heads, dims.head_dim}, qkv.options());
  }
  const at::Tensor queries = qkv.narrow(1, 0, dims.heads);
  if (on_device.has_context) {
    return prefill_over_context(context, queries);
  }
  return prefill(context,
                 queries,
                 qkv.narrow(1, dims.heads, dims.kv_heads),
                 qkv.narrow(1, dims.heads + dims.kv_heads, dims.kv_heads),
                 on_device.query_starts,
                 on_device.max_query_length);
}

}  // namespace

at::Tensor self_attention(const AttentionDims& dims,
                          const AttentionWeights& weights,
                          const at::Tensor& x,
                          const at::Tensor& rotary,
                          const UbatchInputs& inputs,
                          at::Tensor& keys,
                          at::Tensor& values,
                          Numerics numerics) {
  const std::int64_t num_tokens = x.size(0);
  if (num_tokens == 0) {
    return at::empty({0, weights.output.size(0)}, x.options());
  }
  DOVETAIL_CHECK(rotary.is_contiguous() && rotary.scalar_type() == at::kBFloat16 &&
                     rotary.dim() == 3 && rotary.size(0) == 2 && rotary.size(1) == num_tokens,
                 "rotary must be [2, tokens, rotary_dim / 2]");
  DOVETAIL_CHECK(inputs.slot_mapping.is_contiguous() &&
                     inputs.slot_mapping.scalar_type() == at::kLong &&
                     inputs.slot_mapping.numel() == num_tokens,
                 "slot_mapping must be [tokens] int64, contiguous");
  const Context context = {.dims = dims,
                           .inputs = inputs,
                           .keys = keys,
                           .values = values,
                           .segments = segments_of(inputs),
                           .cache = paged(dims, keys, values),
                           .scale = 1.0F / std::sqrt(static_cast<float>(dims.head_dim)),
                           .numerics = numerics};
  at::Tensor qkv = project(x, weights.qkv, weights.qkv_bias, numerics)
                       .view({num_tokens, dims.heads + 2 * dims.kv_heads, dims.head_dim});
  launch_qkv({.qkv = qkv.mutable_data_ptr(),
              .q_norm = weights.q_norm.defined() ? weights.q_norm.const_data_ptr() : nullptr,
              .k_norm = weights.k_norm.defined() ? weights.k_norm.const_data_ptr() : nullptr,
              .rotary = rotary.const_data_ptr(),
              .slots = inputs.slot_mapping.const_data_ptr<std::int64_t>(),
              .keys = keys.mutable_data_ptr(),
              .values = values.mutable_data_ptr(),
              .tokens = num_tokens,
              .heads = dims.heads,
              .kv_heads = dims.kv_heads,
              .head_dim = dims.head_dim,
              .rotary_dim = 2 * rotary.size(2),
              .epsilon = static_cast<float>(dims.norm_epsilon)},
             stream());
  return project(attend(context, qkv).view({num_tokens, dims.heads * dims.head_dim}),
                 weights.output,
                 weights.output_bias,
                 numerics);
}

}  // namespace dovetail::gpu
