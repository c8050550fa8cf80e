// Why blocks: ATen's fused attention on the CPU sums over keys in blocks counted from key 0, so a
// row's result does not depend on where its request is cut, but for the kernel that a GEMM picks by
// its number of rows. Its `is_causal` assumes no context, and with a mask it visits every key; so
// queries go in blocks that end at multiples of kQueryBlock of the position, each with the keys up
// to its own end: at most kQueryBlock keys a row are visited in vain, a mask stays small, and a
// cut leaves all other blocks as they were.
#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>
#include <string>
#include <tuple>

#include <ATen/ops/_scaled_dot_product_attention_math.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/le.h>
#include <ATen/ops/logical_not.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "framework/base/check.hpp"
#include "models/layers/attend_in_tiles.hpp"
#include "models/layers/attention.hpp"

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

/// A request's first `length` keys or values, [length, kv_heads, head_dim]. A view where the pages
/// are neighbours, else a copy. As the kernels that a GEMM picks may depend on the alignment, the
/// view has the one of a new tensor.
at::Tensor gather(const at::Tensor& cache, const RequestPages& request, std::int64_t length) {
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

/// softmax(q k^T / sqrt(head_dim)) v under a mask. On a GPU by plain GEMMs: which fused kernel
/// there serves float32, and how precisely, is not ours to choose. These add the mask as it is.
at::Tensor masked_attention(const at::Tensor& queries,
                            const at::Tensor& keys,
                            const at::Tensor& values,
                            const at::Tensor& mask) {
  if (!queries.is_cuda()) {
    return at::scaled_dot_product_attention(queries, keys, values, mask);
  }
  const at::Tensor added =
      at::zeros(mask.sizes(), queries.options())
          .masked_fill_(at::logical_not(mask), -std::numeric_limits<double>::infinity());
  return std::get<0>(at::_scaled_dot_product_attention_math(queries, keys, values, added));
}

}  // namespace

at::Tensor attend_to_context(const at::Tensor& queries,
                             const std::vector<AttentionSegment>& segments,
                             const at::Tensor& block_tables,
                             const at::Tensor& keys,
                             const at::Tensor& values,
                             Numerics numerics) {
  const std::int64_t kv_heads = keys.size(2);
  const std::int64_t group = queries.size(1) / kv_heads;
  if (queries.is_cuda()) {  // behind the tables of the segments there may be some of padding
    DOVETAIL_CHECK(block_tables.size(0) >= std::ssize(segments), "a segment without a block table");
  } else {
    DOVETAIL_CHECK_EQ(block_tables.size(0), std::ssize(segments));
  }
  const at::Tensor tables = block_tables.cpu();  // the same tensor on the CPU
  at::Tensor result = at::zeros_like(queries);
  const at::Tensor all_queries = by_group(queries, kv_heads, group);
  at::Tensor all_results = by_group(result, kv_heads, group);
  for (std::size_t index = 0; index < segments.size(); ++index) {
    const AttentionSegment& segment = segments[index];
    DOVETAIL_CHECK(segment.query_length >= 1, "an empty segment");
    DOVETAIL_CHECK(segment.token_start + segment.query_length <= queries.size(0),
                   "segment outside its ubatch");
    const std::int64_t length = segment.context_length + segment.query_length;
    const RequestPages pages = pages_of(
        tables.select(0, static_cast<std::int64_t>(index)), length, keys.size(1), keys.size(0));
    if (numerics == Numerics::batch_invariant) {
      const auto rows = [&](const at::Tensor& x) {
        return x.narrow(0, segment.token_start, segment.query_length);
      };
      rows(result).copy_(attend_in_tiles(rows(queries),
                                         gather(keys, pages, length),
                                         gather(values, pages, length),
                                         segment.context_length));
      continue;
    }
    const at::Tensor context_keys = by_group(gather(keys, pages, length), kv_heads, group);
    const at::Tensor context_values = by_group(gather(values, pages, length), kv_heads, group);
    std::int64_t first = segment.context_length;  // position within the request
    while (first < length) {
      const std::int64_t rows = std::min(length - first, kQueryBlock - first % kQueryBlock);
      const std::int64_t row = segment.token_start + first - segment.context_length;
      all_results.narrow(2, row, rows)
          .copy_(masked_attention(all_queries.narrow(2, row, rows),
                                  context_keys.narrow(2, 0, first + rows),
                                  context_values.narrow(2, 0, first + rows),
                                  causal_mask(first, rows, queries)));
      first += rows;
    }
  }
  return result;
}

}  // namespace dovetail
