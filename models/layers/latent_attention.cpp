#include "models/layers/latent_attention.hpp"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>

#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/zeros.h>

#include "framework/base/check.hpp"
#include "models/layers/cuda/layers.hpp"
#include "models/layers/paged_context.hpp"
#include "models/layers/products.hpp"
#include "models/layers/rms_norm.hpp"
#include "models/layers/rotary.hpp"
#include "models/layers/tiles.hpp"

namespace dovetail {
namespace {

/// Pairs of neighbours as halves, which rotate() takes. Queries and keys change their order alike,
/// so no product of the two does.
at::Tensor pairs_as_halves(const at::Tensor& x) {
  return x.unflatten(-1, {-1, 2}).transpose(-1, -2).flatten(-2);
}

at::Tensor turned(const LatentAttentionDims& dims,
                  const at::Tensor& x,
                  const at::Tensor& rotary,
                  Numerics numerics) {
  return rotate(dims.rotates_pairs ? pairs_as_halves(x) : x, rotary, numerics);
}

/// [T, heads, N + R], with the rotary part turned.
at::Tensor queries_of(const LatentAttentionDims& dims,
                      const LatentAttentionWeights& weights,
                      const at::Tensor& x,
                      const at::Tensor& rotary,
                      Numerics numerics) {
  at::Tensor compressed = x;
  if (dims.q_lora_rank > 0) {
    compressed = rms_norm(project(x, weights.q_down, weights.q_down_bias, numerics),
                          weights.q_norm,
                          dims.norm_epsilon,
                          numerics);
  }
  const at::Tensor queries = project(compressed, weights.query, at::Tensor(), numerics)
                                 .view({x.size(0), dims.heads, dims.query_size()});
  const at::Tensor rope = queries.narrow(2, dims.qk_nope_head_dim, dims.qk_rope_head_dim);
  return at::cat(
      {queries.narrow(2, 0, dims.qk_nope_head_dim), turned(dims, rope, rotary, numerics)}, 2);
}

/// [T, 1, C + R]: what the cache keeps.
at::Tensor latents_of(const LatentAttentionDims& dims,
                      const LatentAttentionWeights& weights,
                      const at::Tensor& x,
                      const at::Tensor& rotary,
                      Numerics numerics) {
  const at::Tensor both = project(x, weights.kv_down, weights.kv_down_bias, numerics).unsqueeze(1);
  const at::Tensor latent =
      rms_norm(both.narrow(2, 0, dims.kv_lora_rank), weights.kv_norm, dims.norm_epsilon, numerics);
  const at::Tensor rope = both.narrow(2, dims.kv_lora_rank, dims.qk_rope_head_dim);
  return at::cat({latent, turned(dims, rope, rotary, numerics)}, 2);
}

/// x [T, heads, in], weight [heads, out, in] -> [T, heads, out]: each head by its own matrix.
at::Tensor multiply_heads(const at::Tensor& x, const at::Tensor& weight, Numerics numerics) {
  const auto multiply = [&](const at::Tensor& rows) {
    return at::bmm(rows.transpose(0, 1), weight.transpose(1, 2)).transpose(0, 1).contiguous();
  };
  if (numerics == Numerics::fast) {
    return multiply(x);
  }
  if (x.is_cuda()) {
    return x.size(0) == 0 ? multiply(x) : by_row_blocks(x, multiply);
  }
  at::Tensor result = at::empty({x.size(0), x.size(1), weight.size(1)}, x.options());
  std::vector<RowProduct> products;
  for (std::int64_t head = 0; head < x.size(1); ++head) {
    products.push_back({.x = x.select(1, head),
                        .weight = weight.select(0, head),
                        .bias = {},
                        .result = result.select(1, head)});
  }
  multiply_by_rows(std::move(products));
  return result;
}

/// The rows of kv_up of each head: [heads, N + V, C].
at::Tensor up_by_head(const LatentAttentionDims& dims, const at::Tensor& kv_up) {
  return kv_up.view({dims.heads, dims.qk_nope_head_dim + dims.v_head_dim, dims.kv_lora_rank});
}

void check_segment(const AttentionSegment& segment, const at::Tensor& queries) {
  DOVETAIL_CHECK(segment.query_length >= 1, "an empty segment");
  DOVETAIL_CHECK(segment.token_start + segment.query_length <= queries.size(0),
                 "segment outside its ubatch");
}

/// attend(queries [n, ...], latents [context + n, 1, C + R], context_length) of each segment ->
/// [T, heads, size]; zeros elsewhere.
template <class Attend>
at::Tensor of_segments(const at::Tensor& queries,
                       std::int64_t size,
                       const std::vector<AttentionSegment>& segments,
                       const at::Tensor& block_tables,
                       const at::Tensor& latents,
                       const Attend& attend) {
  const at::Tensor tables = tables_of(segments, block_tables);
  at::Tensor result = at::zeros({queries.size(0), queries.size(1), size}, queries.options());
  for (std::size_t index = 0; index < segments.size(); ++index) {
    const AttentionSegment& segment = segments[index];
    check_segment(segment, queries);
    const at::Tensor rows = gather_rows(latents,
                                        tables.select(0, static_cast<std::int64_t>(index)),
                                        segment.context_length + segment.query_length);
    result.narrow(0, segment.token_start, segment.query_length)
        .copy_(attend(queries.narrow(0, segment.token_start, segment.query_length),
                      rows,
                      segment.context_length));
  }
  return result;
}

/// Neighbouring segments of one form: their rows, and what stands for them alone.
struct Run {
  bool is_absorbed = false;
  std::size_t first_segment = 0;
  std::size_t num_segments = 0;
};

std::vector<Run> runs_of(const std::vector<AttentionSegment>& segments, Numerics numerics) {
  std::vector<Run> runs;
  for (std::size_t index = 0; index < segments.size(); ++index) {
    const bool is_absorbed =
        numerics == Numerics::batch_invariant || segments[index].query_length == 1;
    if (runs.empty() || runs.back().is_absorbed != is_absorbed) {
      runs.push_back({.is_absorbed = is_absorbed, .first_segment = index});
    }
    ++runs.back().num_segments;
  }
  return runs;
}

at::Tensor attend(const LatentAttentionDims& dims,
                  const at::Tensor& kv_up,
                  const at::Tensor& queries,
                  const UbatchInputs& inputs,
                  const at::Tensor& latents,
                  Numerics numerics) {
  at::Tensor result = at::zeros({queries.size(0), dims.heads, dims.v_head_dim}, queries.options());
  const at::Tensor tables = tables_of(inputs.segments, inputs.block_tables);
  for (const Run& run : runs_of(inputs.segments, numerics)) {
    const auto begin = inputs.segments.begin() + static_cast<std::ptrdiff_t>(run.first_segment);
    std::vector<AttentionSegment> segments(begin,
                                           begin + static_cast<std::ptrdiff_t>(run.num_segments));
    const std::int64_t first = segments.front().token_start;
    const std::int64_t end = segments.back().token_start + segments.back().query_length;
    for (AttentionSegment& segment : segments) {
      segment.token_start -= first;
    }
    const at::Tensor own_tables =
        tables.narrow(0, static_cast<std::int64_t>(run.first_segment), std::ssize(segments));
    const at::Tensor own_queries = queries.narrow(0, first, end - first);
    result.narrow(0, first, end - first)
        .copy_(
            run.is_absorbed
                ? attend_absorbed(dims, kv_up, own_queries, segments, own_tables, latents, numerics)
                : attend_expanded(dims, kv_up, own_queries, segments, own_tables, latents));
  }
  return result;
}

}  // namespace

ExpandedLatents expand_latents(const LatentAttentionDims& dims,
                               const at::Tensor& kv_up,
                               const at::Tensor& latents) {
  const std::int64_t count = latents.size(0);
  const at::Tensor up = at::linear(latents.select(1, 0).narrow(1, 0, dims.kv_lora_rank), kv_up)
                            .view({count, dims.heads, dims.qk_nope_head_dim + dims.v_head_dim});
  const at::Tensor rope = latents.narrow(2, dims.kv_lora_rank, dims.qk_rope_head_dim)
                              .expand({count, dims.heads, dims.qk_rope_head_dim});
  return {.keys = at::cat({up.narrow(2, 0, dims.qk_nope_head_dim), rope}, 2),
          .values = up.narrow(2, dims.qk_nope_head_dim, dims.v_head_dim)};
}

at::Tensor attend_absorbed(const LatentAttentionDims& dims,
                           const at::Tensor& kv_up,
                           const at::Tensor& queries,
                           const std::vector<AttentionSegment>& segments,
                           const at::Tensor& block_tables,
                           const at::Tensor& latents,
                           Numerics numerics) {
  const at::Tensor up = up_by_head(dims, kv_up);
  const at::Tensor of_keys = up.narrow(1, 0, dims.qk_nope_head_dim).transpose(1, 2);
  const at::Tensor of_values = up.narrow(1, dims.qk_nope_head_dim, dims.v_head_dim);
  const at::Tensor absorbed =
      at::cat({multiply_heads(queries.narrow(2, 0, dims.qk_nope_head_dim), of_keys, numerics),
               queries.narrow(2, dims.qk_nope_head_dim, dims.qk_rope_head_dim)},
              2);
  const at::Tensor attended = of_segments(
      absorbed,
      dims.latent_size(),
      segments,
      block_tables,
      latents,
      [&](const at::Tensor& own, const at::Tensor& rows, std::int64_t context_length) {
        // The rotary part is attended to in vain: heads of one size, and no copy of the latents.
        return attend_request(own, rows, rows, context_length, dims.softmax_scale, numerics);
      });
  return multiply_heads(attended.narrow(2, 0, dims.kv_lora_rank), of_values, numerics);
}

at::Tensor attend_expanded(const LatentAttentionDims& dims,
                           const at::Tensor& kv_up,
                           const at::Tensor& queries,
                           const std::vector<AttentionSegment>& segments,
                           const at::Tensor& block_tables,
                           const at::Tensor& latents) {
  return of_segments(
      queries,
      dims.v_head_dim,
      segments,
      block_tables,
      latents,
      [&](const at::Tensor& own, const at::Tensor& rows, std::int64_t context_length) {
        const ExpandedLatents expanded = expand_latents(dims, kv_up, rows);
        return attend_request(own,
                              expanded.keys,
                              expanded.values,
                              context_length,
                              dims.softmax_scale,
                              Numerics::fast);
      });
}

at::Tensor latent_attention(const LatentAttentionDims& dims,
                            const LatentAttentionWeights& weights,
                            const at::Tensor& x,
                            const at::Tensor& rotary,
                            const UbatchInputs& inputs,
                            at::Tensor& latents,
                            Numerics numerics) {
  if constexpr (gpu::kIsBuilt) {
    if (gpu::serves(x)) {
      return gpu::latent_attention(dims, weights, x, rotary, inputs, latents, numerics);
    }
  }
  DOVETAIL_CHECK_EQ(rotary.size(1), x.size(0));
  const at::Tensor queries = queries_of(dims, weights, x, rotary, numerics);
  write_cache(inputs, latents_of(dims, weights, x, rotary, numerics), latents);
  const at::Tensor attended = attend(dims, weights.kv_up, queries, inputs, latents, numerics);
  return project(attended.view({x.size(0), dims.heads * dims.v_head_dim}),
                 weights.output,
                 weights.output_bias,
                 numerics);
}

}  // namespace dovetail
