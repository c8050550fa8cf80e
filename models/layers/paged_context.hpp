// A request's rows in a paged cache, and attention of one request over them, on the CPU and for
// float32 on a GPU.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/config/choices.hpp"
#include "framework/step/model.hpp"

namespace dovetail {

/// cache[slot of row] = rows, for the rows that segments name: padding rows have no slot. rows [T,
/// heads, head_dim], cache [pages, page_size, heads, head_dim].
void write_cache(const UbatchInputs& inputs, const at::Tensor& rows, at::Tensor& cache);

/// Block tables [segments, max pages] int32 on the CPU. Throws ContractError where a segment has
/// none; on a GPU, which is waited for, there may be some of padding behind them.
at::Tensor tables_of(const std::vector<AttentionSegment>& segments, const at::Tensor& block_tables);

/// The first `length` rows of the request with that table, [length, heads, head_dim]; a view where
/// its pages are neighbours, else a copy. Throws ContractError where the table names too few pages,
/// or one that is not in the cache.
at::Tensor gather_rows(const at::Tensor& cache, const at::Tensor& table, std::int64_t length);

/// softmax(scale q k^T) v of one request: queries [n, heads, head_dim] at positions context_length,
/// context_length + 1, ..., each over the keys up to itself; keys [context_length + n, kv_heads,
/// head_dim], values the same with a head size of their own. `scale`: none = 1 / sqrt(head_dim).
/// Returns [n, heads, size of the values' heads]. batch_invariant: attend_in_tiles.hpp.
at::Tensor attend_request(const at::Tensor& queries,
                          const at::Tensor& keys,
                          const at::Tensor& values,
                          std::int64_t context_length,
                          std::optional<double> scale,
                          Numerics numerics);

}  // namespace dovetail
