#include <cstddef>
#include <cstdint>
#include <optional>

#include <ATen/ops/zeros_like.h>

#include "framework/base/check.hpp"
#include "models/layers/attention.hpp"
#include "models/layers/paged_context.hpp"

namespace dovetail {

at::Tensor attend_to_context(const at::Tensor& queries,
                             const std::vector<AttentionSegment>& segments,
                             const at::Tensor& block_tables,
                             const at::Tensor& keys,
                             const at::Tensor& values,
                             Numerics numerics) {
  const at::Tensor tables = tables_of(segments, block_tables);
  at::Tensor result = at::zeros_like(queries);
  for (std::size_t index = 0; index < segments.size(); ++index) {
    const AttentionSegment& segment = segments[index];
    DOVETAIL_CHECK(segment.query_length >= 1, "an empty segment");
    DOVETAIL_CHECK(segment.token_start + segment.query_length <= queries.size(0),
                   "segment outside its ubatch");
    const std::int64_t length = segment.context_length + segment.query_length;
    const at::Tensor table = tables.select(0, static_cast<std::int64_t>(index));
    result.narrow(0, segment.token_start, segment.query_length)
        .copy_(attend_request(queries.narrow(0, segment.token_start, segment.query_length),
                              gather_rows(keys, table, length),
                              gather_rows(values, table, length),
                              segment.context_length,
                              std::nullopt,
                              numerics));
  }
  return result;
}

}  // namespace dovetail
