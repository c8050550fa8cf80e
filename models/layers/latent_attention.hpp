// Multi-head latent attention of a ubatch over a paged cache of latents (DeepSeek-V2,
// arXiv:2405.04434, section 2.1): keys and values of all heads are products of one latent of a
// token, so the cache holds that and one rotary key that all heads share.
//
// Two forms compute the same. Expanded: the latents of the context become keys and values, as for
// any attention; right for many queries. Absorbed: queries go into the space of the latents, attend
// to these as one head of keys and values, and what comes out goes through the values' matrix;
// right for one query. Here segments of one row are absorbed and all others expanded; with
// batch_invariant all are absorbed, so that a row does not depend on the cut.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/config/choices.hpp"
#include "framework/step/model.hpp"

namespace dovetail {

/// Names as in a config.json. N, R, V below: qk_nope_head_dim, qk_rope_head_dim, v_head_dim; C:
/// kv_lora_rank; Q: q_lora_rank.
struct LatentAttentionDims {
  std::int64_t heads = 0;
  std::int64_t qk_nope_head_dim = 0;
  std::int64_t qk_rope_head_dim = 0;
  std::int64_t v_head_dim = 0;
  std::int64_t kv_lora_rank = 0;
  std::int64_t q_lora_rank = 0;  ///< 0 = queries are not compressed
  double norm_epsilon = 0;       ///< of the norms of latents
  double softmax_scale = 0;
  bool rotates_pairs = false;  ///< elements 2 i and 2 i + 1 turn together, not i and i + R / 2

  std::int64_t query_size() const { return qk_nope_head_dim + qk_rope_head_dim; }

  std::int64_t latent_size() const { return kv_lora_rank + qk_rope_head_dim; }
};

/// Rows are output features, as in a checkpoint.
struct LatentAttentionWeights {
  at::Tensor q_down;        ///< [Q, H] q_a_proj; undefined where queries are not compressed, as the
                            ///< next two
  at::Tensor q_down_bias;   ///< [Q], or undefined
  at::Tensor q_norm;        ///< [Q]
  at::Tensor query;         ///< [heads (N + R), Q or H] q_b_proj or q_proj
  at::Tensor kv_down;       ///< [C + R, H] kv_a_proj_with_mqa
  at::Tensor kv_down_bias;  ///< [C + R], or undefined
  at::Tensor kv_norm;       ///< [C]
  at::Tensor kv_up;         ///< [heads (N + V), C] kv_b_proj: of each head its keys' rows, then its
                            ///< values'
  at::Tensor output;        ///< [H, heads V]
  at::Tensor output_bias;   ///< [H], or undefined
};

/// x [T, H] (normed) -> [T, H], residual not added. Writes the latents of the rows in segments at
/// their slots first: latents [pages, page_size, 1, C + R], normed latent and turned rotary key.
/// `rotary` as written by Rotary::table for heads of R. Padding rows as in self_attention.
/// batch_invariant: a row's result and latent depend on its request's tokens up to itself alone; on
/// a GPU in bfloat16 rows of a decode step and of all other steps are two such kinds.
at::Tensor latent_attention(const LatentAttentionDims& dims,
                            const LatentAttentionWeights& weights,
                            const at::Tensor& x,
                            const at::Tensor& rotary,
                            const UbatchInputs& inputs,
                            at::Tensor& latents,
                            Numerics numerics = Numerics::fast);

struct ExpandedLatents {
  at::Tensor keys;    ///< [n, heads, N + R]
  at::Tensor values;  ///< [n, heads, V]
};

/// Keys and values of n tokens from rows of the cache [n, 1, C + R]; kv_up as above.
ExpandedLatents expand_latents(const LatentAttentionDims& dims,
                               const at::Tensor& kv_up,
                               const at::Tensor& latents);

/// Attention in the space of the latents: queries [T, heads, N + R], turned, -> [T, heads, V], new;
/// zeros outside of the segments, which may have any number of rows. block_tables and latents as in
/// attend_to_context. batch_invariant: as there.
at::Tensor attend_absorbed(const LatentAttentionDims& dims,
                           const at::Tensor& kv_up,
                           const at::Tensor& queries,
                           const std::vector<AttentionSegment>& segments,
                           const at::Tensor& block_tables,
                           const at::Tensor& latents,
                           Numerics numerics = Numerics::fast);

/// The same by way of keys and values. Not batch invariant.
at::Tensor attend_expanded(const LatentAttentionDims& dims,
                           const at::Tensor& kv_up,
                           const at::Tensor& queries,
                           const std::vector<AttentionSegment>& segments,
                           const at::Tensor& block_tables,
                           const at::Tensor& latents);

}  // namespace dovetail
