#include "models/layers/attend_in_tiles.hpp"

#include <cmath>
#include <limits>

#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>

#include "models/layers/tiles.hpp"

namespace dovetail {
namespace {

/// x [rows, heads, head_dim] as [heads, total, head_dim] in float32, rows from `first` on, zeros
/// elsewhere.
at::Tensor by_head(const at::Tensor& x, std::int64_t first, std::int64_t total) {
  at::Tensor result = at::zeros({x.size(1), total, x.size(2)}, x.options().dtype(at::kFloat));
  result.narrow(1, first, x.size(0)).copy_(x.transpose(0, 1));
  return result;
}

}  // namespace

at::Tensor attend_in_tiles(const at::Tensor& queries,
                           const at::Tensor& keys,
                           const at::Tensor& values,
                           std::int64_t context_length,
                           std::optional<double> scale) {
  const std::int64_t length = keys.size(0);
  const std::int64_t kv_heads = keys.size(1);
  const std::int64_t group = queries.size(1) / kv_heads;
  const std::int64_t head_dim = queries.size(2);
  const std::int64_t first_block = context_length / kPositionBlock;
  const std::int64_t end_block = num_blocks(length, kPositionBlock);
  const std::int64_t start = first_block * kPositionBlock;
  const std::int64_t all_positions = end_block * kPositionBlock;
  const at::Tensor all_queries =
      by_head(queries, context_length - start, all_positions - start)
          .mul_(scale.value_or(1.0 / std::sqrt(static_cast<double>(head_dim))))
          .view({kv_heads, group, all_positions - start, head_dim});
  const at::Tensor all_keys = by_head(keys, 0, all_positions);
  const at::Tensor all_values = by_head(values, 0, all_positions);
  const std::int64_t value_size = values.size(2);
  at::Tensor result =
      at::zeros({kv_heads, group, all_positions - start, value_size}, all_queries.options());
  const at::Tensor hidden =  // key j of a block's own is behind its query i
      at::ones({kPositionBlock, kPositionBlock}, queries.options().dtype(at::kBool)).triu_(1);
  const std::int64_t blocks = end_block - first_block;
  for_each_tile(queries.device(), kv_heads * blocks, [&](std::int64_t tile) {
    const std::int64_t head = tile % kv_heads;
    // Later blocks have more keys: from both ends in turns, so that threads get equal shares.
    const std::int64_t turn = tile / kv_heads;
    const std::int64_t block = turn % 2 == 0 ? turn / 2 : blocks - 1 - turn / 2;
    const std::int64_t visible = (first_block + block + 1) * kPositionBlock;
    const at::Tensor block_queries = all_queries.select(0, head)
                                         .narrow(1, block * kPositionBlock, kPositionBlock)
                                         .reshape({group * kPositionBlock, head_dim});
    at::Tensor scores =
        at::mm(aligned(block_queries), all_keys.select(0, head).narrow(0, 0, visible).t());
    scores.view({group, kPositionBlock, visible})
        .narrow(2, visible - kPositionBlock, kPositionBlock)
        .masked_fill_(hidden, -std::numeric_limits<double>::infinity());
    const at::Tensor attended =
        at::mm(at::softmax(scores, -1), all_values.select(0, head).narrow(0, 0, visible));
    result.select(0, head)
        .narrow(1, block * kPositionBlock, kPositionBlock)
        .copy_(attended.view({group, kPositionBlock, value_size}));
  });
  return result.view({kv_heads * group, all_positions - start, value_size})
      .narrow(1, context_length - start, queries.size(0))
      .transpose(0, 1)
      .to(queries.scalar_type());
}

}  // namespace dovetail
