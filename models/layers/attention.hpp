// Grouped-query self-attention of a ubatch over the rank's key-value cache (Ainslie et al.,
// arXiv:2305.13245), with norms of queries and keys where a model has them.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/config/choices.hpp"
#include "framework/step/model.hpp"

namespace dovetail {

struct AttentionDims {
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;  ///< divides heads; query head h reads kv head h / (heads / kv_heads)
  std::int64_t head_dim = 0;
  double norm_epsilon = 0;
};

/// Rows are output features, as in a checkpoint.
struct AttentionWeights {
  at::Tensor qkv;          ///< [(heads + 2 kv_heads) head_dim, H]: q_proj above k_proj above v_proj
  at::Tensor qkv_bias;     ///< the same rows; undefined where the model has no biases
  at::Tensor output;       ///< [H, heads head_dim]
  at::Tensor output_bias;  ///< [H], or undefined
  at::Tensor q_norm;       ///< [head_dim]; undefined where the model has no such norms
  at::Tensor k_norm;       ///< [head_dim], or undefined
};

/// x [T, H] (normed) -> [T, H], residual not added. Writes the keys and values of the rows in
/// segments at their slots first: keys, values [pages, page_size, kv_heads, head_dim]. `rotary` as
/// written by Rotary::table. Rows outside all segments are padding: nothing is written, their
/// result is that of zeros. batch_invariant: a row's result and its key and value depend on its
/// request's tokens up to itself alone, and not on how the request was cut; on a GPU in bfloat16
/// rows of a decode step (max_query_length 1) and of all other steps are two such kinds.
at::Tensor self_attention(const AttentionDims& dims,
                          const AttentionWeights& weights,
                          const at::Tensor& x,
                          const at::Tensor& rotary,
                          const UbatchInputs& inputs,
                          at::Tensor& keys,
                          at::Tensor& values,
                          Numerics numerics = Numerics::fast);

/// softmax(q k^T / sqrt(head_dim)) v of each row over the keys of its request up to itself. queries
/// [T, heads, head_dim] -> the same shape, new; zeros outside the segments. block_tables [segments,
/// max pages] int32 names the pages of each segment's request (on a GPU rows behind are padding),
/// keys and values are [pages, page_size, kv_heads, head_dim]. On a GPU it waits for the block
/// tables. A row's result depends neither on the page size nor on where the pages lie, to the bit;
/// batch_invariant: nor on the cuts of its request (attend_in_tiles.hpp).
/// Throws ContractError where a table names too few pages, or one that is not in the cache.
at::Tensor attend_to_context(const at::Tensor& queries,
                             const std::vector<AttentionSegment>& segments,
                             const at::Tensor& block_tables,
                             const at::Tensor& keys,
                             const at::Tensor& values,
                             Numerics numerics = Numerics::fast);

}  // namespace dovetail
