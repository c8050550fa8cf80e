// Multi-head latent attention in bfloat16 on a GPU. Latents are normed, rotary dims turned and keys
// cached by one kernel. Then, by the bounds of the step:
// - at most one query a segment (decode): absorbed, over the paged latents;
// - else: latents become keys and values of all heads, those of the context gathered out of their
//   pages, and prefill attention follows. The rotary key is not copied for each head.
#include <ATen/ops/_grouped_mm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAStream.h>

#include "framework/base/check.hpp"
#include "framework/cuda/num_sms.hpp"
#include "framework/cuda/sm_partition.hpp"
#include "models/layers/cuda/kernels.hpp"
#include "models/layers/cuda/layers.hpp"
#include "models/layers/cuda/segments.hpp"
#include "models/layers/products.hpp"
#include "models/layers/rms_norm.hpp"

namespace dovetail::gpu {
namespace {

constexpr std::int64_t kRopeDim = kLatentKeyDim - kLatentValueDim;

cudaStream_t stream() {
  return c10::cuda::getCurrentCUDAStream().stream();
}

/// What attention needs besides queries.
struct Context {
  const LatentAttentionDims& dims;
  const at::Tensor& kv_up;
  const UbatchInputs& inputs;
  const at::Tensor& cache;
  DeviceSegments segments;
  Numerics numerics;

  std::int64_t page_size() const { return cache.size(1); }

  float scale() const { return static_cast<float>(dims.softmax_scale); }

  /// The rows of kv_up of each head: [heads, nope and value dims, latent].
  at::Tensor up_by_head() const { return kv_up.view({dims.heads, -1, kLatentValueDim}); }
};

/// x [heads, T, in] times weight [heads, in, out]. The grouped product's sums run in one order for
/// any number of rows.
at::Tensor multiply_heads(const at::Tensor& x, const at::Tensor& weight, Numerics numerics) {
  return numerics == Numerics::batch_invariant ? at::_grouped_mm(x, weight) : at::bmm(x, weight);
}

/// queries [T, heads, nope and rotary dims], turned, -> [T, heads, value dims].
at::Tensor decode(const Context& context, const at::Tensor& queries) {
  const LatentAttentionDims& dims = context.dims;
  const std::int64_t tokens = queries.size(0);
  const at::Tensor up = context.up_by_head();
  const at::Tensor nope = queries.narrow(2, 0, dims.qk_nope_head_dim).transpose(0, 1);
  const at::Tensor absorbed =
      multiply_heads(nope, up.narrow(1, 0, dims.qk_nope_head_dim), context.numerics);
  const at::Tensor rope = queries.narrow(2, dims.qk_nope_head_dim, kRopeDim);
  const at::Tensor attended = at::empty({dims.heads, tokens, kLatentValueDim}, queries.options());
  LatentDecodeArguments arguments = {.queries = {.latent = absorbed.const_data_ptr(),
                                                 .latent_token_stride = absorbed.stride(1),
                                                 .latent_head_stride = absorbed.stride(0),
                                                 .rope = rope.const_data_ptr(),
                                                 .rope_token_stride = rope.stride(0),
                                                 .rope_head_stride = rope.stride(1)},
                                     .result = attended.mutable_data_ptr(),
                                     .result_token_stride = attended.stride(1),
                                     .result_head_stride = attended.stride(0),
                                     .tokens = tokens,
                                     .heads = dims.heads,
                                     .latents = context.cache.const_data_ptr(),
                                     .page_size = context.page_size(),
                                     .segments = context.segments,
                                     .scale = context.scale(),
                                     .num_sms = SmPartition::sms_to_compute()};
  const std::int64_t max_key_length = context.inputs.on_device.max_key_length;
  if (context.numerics == Numerics::batch_invariant) {
    arguments.split_by = DecodeSplit::length;
    arguments.splits = decode_splits_by_length(max_key_length);
  } else {
    arguments.splits =
        latent_decode_splits(context.segments.count, dims.heads, max_key_length, num_sms());
  }
  at::Tensor partial;
  if (arguments.splits > 1) {
    partial =
        at::empty({latent_decode_partial_floats(arguments)}, queries.options().dtype(at::kFloat));
    arguments.partial = partial.mutable_data_ptr<float>();
  }
  launch_latent_decode(arguments, stream());
  const at::Tensor of_values = up.narrow(1, dims.qk_nope_head_dim, dims.v_head_dim);
  return multiply_heads(attended, of_values.transpose(1, 2), context.numerics)
      .transpose(0, 1)
      .contiguous();
}

/// The latents and rotary keys of all keys of all segments, one segment behind the other.
struct Keys {
  at::Tensor latents;    ///< [n, latent]
  at::Tensor rope_keys;  ///< [n, rotary dims]
};

Keys gather(const Context& context, const at::TensorOptions& options) {
  const SegmentTensors& on_device = context.inputs.on_device;
  Keys keys = {.latents = at::empty({on_device.max_keys, kLatentValueDim}, options),
               .rope_keys = at::empty({on_device.max_keys, kRopeDim}, options)};
  launch_gather_latents(keys.latents.mutable_data_ptr(),
                        keys.rope_keys.mutable_data_ptr(),
                        context.cache.const_data_ptr(),
                        context.page_size(),
                        context.segments,
                        on_device.max_key_length,
                        stream());
  return keys;
}

at::Tensor prefill(const Context& context, const at::Tensor& queries, const Keys& keys) {
  const LatentAttentionDims& dims = context.dims;
  const SegmentTensors& on_device = context.inputs.on_device;
  const at::Tensor up =
      project(keys.latents, context.kv_up, at::Tensor(), context.numerics)
          .view({keys.latents.size(0), dims.heads, dims.qk_nope_head_dim + dims.v_head_dim});
  const at::Tensor result =
      at::empty({queries.size(0), dims.heads, dims.v_head_dim}, queries.options());
  const at::Tensor& key_starts =
      on_device.has_context ? on_device.key_starts : on_device.query_starts;
  launch_prefill_attention({.queries = rows_of(queries),
                            .keys = rows_of(up.narrow(2, 0, dims.qk_nope_head_dim)),
                            .shared_keys = rows_of(keys.rope_keys),
                            .values = rows_of(up.narrow(2, dims.qk_nope_head_dim, dims.v_head_dim)),
                            .result = result.mutable_data_ptr(),
                            .heads = dims.heads,
                            .kv_heads = dims.heads,
                            .query_starts = context.segments.query_starts,
                            .key_starts = key_starts.const_data_ptr<std::int32_t>(),
                            .segments = context.segments.count,
                            .max_query_length = on_device.max_query_length,
                            .scale = context.scale()},
                           stream());
  launch_zero_rows(result.mutable_data_ptr(),
                   context.segments.query_starts + context.segments.count,
                   result.size(0),
                   result.size(1) * result.size(2),
                   stream());
  return result;
}

at::Tensor queries_of(const LatentAttentionDims& dims,
                      const LatentAttentionWeights& weights,
                      const at::Tensor& x,
                      Numerics numerics) {
  at::Tensor compressed = x;
  if (dims.q_lora_rank > 0) {
    compressed = dovetail::rms_norm(project(x, weights.q_down, weights.q_down_bias, numerics),
                                    weights.q_norm,
                                    dims.norm_epsilon,
                                    numerics);
  }
  return project(compressed, weights.query, at::Tensor(), numerics)
      .view({x.size(0), dims.heads, dims.query_size()});
}

}  // namespace

at::Tensor latent_attention(const LatentAttentionDims& dims,
                            const LatentAttentionWeights& weights,
                            const at::Tensor& x,
                            const at::Tensor& rotary,
                            const UbatchInputs& inputs,
                            at::Tensor& latents,
                            Numerics numerics) {
  const std::int64_t num_tokens = x.size(0);
  if (num_tokens == 0) {
    return at::empty({0, weights.output.size(0)}, x.options());
  }
  DOVETAIL_CHECK(
      takes_latents(dims) && dims.kv_lora_rank == kLatentValueDim &&
          prefill_attention_takes(dims.qk_nope_head_dim, dims.qk_rope_head_dim, dims.v_head_dim),
      "sizes of latent attention that no kernel takes");
  DOVETAIL_CHECK(rotary.is_contiguous() && rotary.scalar_type() == at::kBFloat16 &&
                     rotary.sizes() == at::IntArrayRef({2, num_tokens, kRopeDim / 2}),
                 "rotary must be [2, tokens, rotary dims / 2]");
  DOVETAIL_CHECK(inputs.slot_mapping.is_contiguous() &&
                     inputs.slot_mapping.scalar_type() == at::kLong &&
                     inputs.slot_mapping.numel() == num_tokens,
                 "slot_mapping must be [tokens] int64, contiguous");
  DOVETAIL_CHECK(latents.is_contiguous() && latents.scalar_type() == at::kBFloat16 &&
                     latents.size(-1) == kLatentKeyDim,
                 "the cache must be [pages, page_size, 1, latent and rotary dims], contiguous");
  DOVETAIL_CHECK(latents.size(0) * latents.size(1) < (std::int64_t{1} << 31), "too many slots");
  const Context context = {.dims = dims,
                           .kv_up = weights.kv_up,
                           .inputs = inputs,
                           .cache = latents,
                           .segments = segments_of(inputs),
                           .numerics = numerics};
  const bool decodes = inputs.on_device.max_query_length <= 1;
  const at::Tensor queries = queries_of(dims, weights, x, numerics);
  const at::Tensor compressed = project(x, weights.kv_down, weights.kv_down_bias, numerics);
  const at::Tensor rope = queries.narrow(2, dims.qk_nope_head_dim, kRopeDim);
  Keys own;
  if (!decodes && !inputs.on_device.has_context) {
    own = {.latents = at::empty({num_tokens, kLatentValueDim}, x.options()),
           .rope_keys = at::empty({num_tokens, kRopeDim}, x.options())};
  }
  launch_latent_rows(
      {.compressed = compressed.const_data_ptr(),
       .compressed_stride = compressed.stride(0),
       .norm = weights.kv_norm.const_data_ptr(),
       .epsilon = static_cast<float>(dims.norm_epsilon),
       .rotary = rotary.const_data_ptr(),
       .interleaved = dims.rotates_pairs,
       .slots = inputs.slot_mapping.const_data_ptr<std::int64_t>(),
       .query_rope = rope.mutable_data_ptr(),
       .query_token_stride = rope.stride(0),
       .query_head_stride = rope.stride(1),
       .latents = own.latents.defined() ? own.latents.mutable_data_ptr() : nullptr,
       .rope_keys = own.rope_keys.defined() ? own.rope_keys.mutable_data_ptr() : nullptr,
       .cache = latents.mutable_data_ptr(),
       .tokens = num_tokens,
       .heads = dims.heads},
      stream());
  at::Tensor attended;
  if (decodes) {
    attended = decode(context, queries);
  } else if (context.segments.count == 0) {
    attended = at::zeros({num_tokens, dims.heads, dims.v_head_dim}, x.options());
  } else {
    attended =
        prefill(context, queries, own.latents.defined() ? own : gather(context, x.options()));
  }
  return project(attended.view({num_tokens, dims.heads * dims.v_head_dim}),
                 weights.output,
                 weights.output_bias,
                 numerics);
}

}  // namespace dovetail::gpu
