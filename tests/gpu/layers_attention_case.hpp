// One call of self-attention in bfloat16 on a GPU, and what it must give: the projections are unit
// matrices, so that its result is the attention itself, and what goes in are queries, keys and
// values before norm and rotation.
#pragma once

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/plan/kv_pages.hpp"
#include "models/layers/attention.hpp"

namespace dovetail::test {

struct AttentionSizes {
  AttentionDims dims;
  int page_size = 16;
  std::vector<std::pair<std::int64_t, std::int64_t>> requests;  ///< context and query lengths
  std::int64_t padding_rows = 0;
  std::int64_t padding_segments = 0;
  bool has_norms = true;  ///< of queries and keys

  std::string describe() const;
};

struct AttentionCase {
  AttentionSizes sizes;
  KvPages pages;
  std::int64_t rows = 0;  ///< of the requests; padding rows are behind
  // float32 on the CPU, of values that bfloat16 has:
  at::Tensor x;     ///< [rows and padding, heads + 2 kv_heads, head_dim]
  at::Tensor keys;  ///< [pages, page_size, kv_heads, head_dim]: contexts; NaN elsewhere
  at::Tensor values;
  /// Around 2, which makes some keys count much more than others; undefined without norms.
  at::Tensor q_norm;
  at::Tensor k_norm;
  at::Tensor positions;     ///< [rows and padding] int64
  at::Tensor slot_mapping;  ///< the same
  UbatchInputs inputs;      ///< on the GPU
};

AttentionCase make_attention_case(const AttentionSizes& sizes, std::mt19937_64& random);

struct AttentionResult {
  at::Tensor attended;  ///< [rows and padding, heads, head_dim]
  at::Tensor keys;      ///< the caches afterwards
  at::Tensor values;
};

/// On the GPU, from poisoned memory.
AttentionResult run_self_attention(const AttentionCase& test_case,
                                   Numerics numerics = Numerics::fast);

/// Normed and turned heads [rows and padding, heads + 2 kv_heads, head_dim] as the CPU computes
/// them in bfloat16; values are as they were.
at::Tensor turned_heads(const AttentionCase& test_case);

/// Attention in double precision over given caches: [rows, heads, head_dim].
at::Tensor exact_attention(const AttentionCase& test_case,
                           const at::Tensor& queries,
                           const at::Tensor& keys,
                           const at::Tensor& values);

/// softmax(q k^T / sqrt(head_dim)) v, causal, q aligned to the last key: q [n, heads, head_dim], k
/// and v [keys, kv_heads, head_dim] -> as q, double.
at::Tensor exact_attention(const at::Tensor& queries,
                           const at::Tensor& keys,
                           const at::Tensor& values);

/// Fills the allocator's free memory with NaN, so that what a kernel does not write is seen.
void poison_free_memory();

}  // namespace dovetail::test
