// Why blocks: ATen's fused attention on the CPU sums over keys in blocks counted from key 0, so a
// row's result does not depend on where its request is cut, but for the kernel that a GEMM picks by
// its number of rows. Its `is_causal` assumes no context, and with a mask it visits every key; so
// queries go in blocks that end at multiples of kQueryBlock of the position, each with the keys up
// to its own end: at most kQueryBlock keys a row are visited in vain, a mask stays small, and a
// cut leaves all other blocks as they were.
#include "models/layers/paged_context.hpp"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>
#include <string>
#include <tuple>

#include <ATen/ops/_scaled_dot_product_attention_math.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/le.h>
#include <ATen/ops/logical_not.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "framework/base/check.hpp"
#include "models/layers/attend_in_tiles.hpp"

namespace dovetail {
namespace {

constexpr std::int64_t kQueryBlock = 256;

/// [rows, heads, head_dim] as [kv_heads, heads / kv_heads, rows, head_dim]. Keys and values (heads
/// == kv_heads) are repeated over their group by a stride of 0. A view.
at::Tensor by_group(const at::Tensor& x, std::int64_t kv_heads, std::int64_t group) {
  return x.unflatten(1, {kv_heads, x.size(1) / kv_heads})
      .permute({1, 2, 0, 3})
      .expand({kv_heads, group, x.size(0), x.size(2)});
}

/// [rows, first + rows] bool: key j is visible to row i if j <= first + i.
at::Tensor causal_mask(std::int64_t first, std::int64_t rows, const at::Tensor& like) {
  const auto options = like.options().dtype(at::kLong);
  return at::le(at::arange(first + rows, options).unsqueeze(0),
                at::arange(first, first + rows, options).unsqueeze(1));
}

/// The pages of a request that hold its first `length` tokens.
struct RequestPages {
  std::vector<std::int64_t> pages;
  bool are_neighbours = true;  ///< they lie one after another
};

RequestPages pages_of(const at::Tensor& table,
                      std::int64_t length,
                      std::int64_t page_size,
                      std::int64_t num_pages) {
  RequestPages result;
  const std::int64_t needed = (length + page_size - 1) / page_size;
  DOVETAIL_CHECK(needed <= table.size(0), "the block table has too few pages");
  const auto* entries = table.const_data_ptr<std::int32_t>();
  for (std::int64_t i = 0; i < needed; ++i) {
    DOVETAIL_CHECK(entries[i] >= 0 && entries[i] < num_pages,
                   "page " + std::to_string(entries[i]) + " is not in the cache");
    result.are_neighbours = result.are_neighbours && (i == 0 || entries[i] == entries[i - 1] + 1);
    result.pages.push_back(entries[i]);
  }
  return result;
}

/// softmax(scale q k^T) v under a mask. On a GPU by plain GEMMs: which fused kernel
/// there serves float32, and how precisely, is not ours to choose. These add the mask as it is.
at::Tensor masked_attention(const at::Tensor& queries,
                            const at::Tensor& keys,
                            const at::Tensor& values,
                            const at::Tensor& mask,
                            std::optional<double> scale) {
  if (!queries.is_cuda()) {
    return at::scaled_dot_product_attention(
        queries, keys, values, mask, /*dropout_p=*/0.0, /*is_causal=*/false, scale);
  }
  const at::Tensor added =
      at::zeros(mask.sizes(), queries.options())
          .masked_fill_(at::logical_not(mask), -std::numeric_limits<double>::infinity());
  return std::get<0>(at::_scaled_dot_product_attention_math(
      queries, keys, values, added, /*dropout_p=*/0.0, /*is_causal=*/false, std::nullopt, scale));
}

}  // namespace

void write_cache(const UbatchInputs& inputs, const at::Tensor& rows, at::Tensor& cache) {
  at::Tensor by_slot = cache.flatten(0, 1);
  // Segments that follow one another are written at once.
  for (auto segment = inputs.segments.begin(); segment != inputs.segments.end();) {
    const std::int64_t start = segment->token_start;
    std::int64_t end = start;
    for (; segment != inputs.segments.end() && segment->token_start == end; ++segment) {
      end += segment->query_length;
    }
    by_slot.index_copy_(
        0, inputs.slot_mapping.narrow(0, start, end - start), rows.narrow(0, start, end - start));
  }
}

at::Tensor tables_of(const std::vector<AttentionSegment>& segments,
                     const at::Tensor& block_tables) {
  if (block_tables.is_cuda()) {
    DOVETAIL_CHECK(block_tables.size(0) >= std::ssize(segments), "a segment without a block table");
  } else {
    DOVETAIL_CHECK_EQ(block_tables.size(0), std::ssize(segments));
  }
  return block_tables.cpu();  // the same tensor on the CPU
}

// As the kernels that a GEMM picks may depend on the alignment, a view has the one of a new tensor.
at::Tensor gather_rows(const at::Tensor& cache, const at::Tensor& table, std::int64_t length) {
  const RequestPages request = pages_of(table, length, cache.size(1), cache.size(0));
  constexpr std::uintptr_t alignment = 64;
  if (request.are_neighbours) {
    at::Tensor view = cache.flatten(0, 1).narrow(0, request.pages.front() * cache.size(1), length);
    if (reinterpret_cast<std::uintptr_t>(view.const_data_ptr()) % alignment == 0) {
      return view;
    }
  }
  return at::index_select(cache, 0, at::tensor(request.pages, at::kLong).to(cache.device()))
      .flatten(0, 1)
      .narrow(0, 0, length);
}

at::Tensor attend_request(const at::Tensor& queries,
                          const at::Tensor& keys,
                          const at::Tensor& values,
                          std::int64_t context_length,
                          std::optional<double> scale,
                          Numerics numerics) {
  const std::int64_t length = keys.size(0);
  const std::int64_t kv_heads = keys.size(1);
  const std::int64_t group = queries.size(1) / kv_heads;
  const std::int64_t value_size = values.size(2);
  DOVETAIL_CHECK_EQ(context_length + queries.size(0), length);
  if (numerics == Numerics::batch_invariant) {
    return attend_in_tiles(queries, keys, values, context_length, scale);
  }
  // The fused kernel takes heads of one size.
  const at::Tensor padded = value_size == queries.size(2)
                                ? values
                                : at::constant_pad_nd(values, {0, queries.size(2) - value_size});
  at::Tensor result = at::empty({queries.size(0), queries.size(1), value_size}, queries.options());
  const at::Tensor all_queries = by_group(queries, kv_heads, group);
  const at::Tensor all_keys = by_group(keys, kv_heads, group);
  const at::Tensor all_values = by_group(padded, kv_heads, group);
  at::Tensor all_results = by_group(result, kv_heads, group);
  std::int64_t first = context_length;  // position within the request
  while (first < length) {
    const std::int64_t rows = std::min(length - first, kQueryBlock - first % kQueryBlock);
    const std::int64_t row = first - context_length;
    all_results.narrow(2, row, rows)
        .copy_(masked_attention(all_queries.narrow(2, row, rows),
                                all_keys.narrow(2, 0, first + rows),
                                all_values.narrow(2, 0, first + rows),
                                causal_mask(first, rows, queries),
                                scale)
                   .narrow(3, 0, value_size));
    first += rows;
  }
  return result;
}

}  // namespace dovetail
