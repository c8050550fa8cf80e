#include "framework/comm/exchange/nccl/block_layout.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "framework/base/check.hpp"
#include "framework/base/text.hpp"

namespace dovetail {

std::int64_t block_capacity(BlockKind kind, std::int64_t max_tokens, double padded_capacity) {
  DOVETAIL_CHECK(max_tokens >= 0, counted(max_tokens, "token"));
  if (kind != BlockKind::padded && !shares_memory(kind)) {
    return max_tokens;
  }
  DOVETAIL_CHECK(padded_capacity > 0 && padded_capacity <= 1,
                 "padded_capacity " + std::to_string(padded_capacity));
  const auto share =
      static_cast<std::int64_t>(std::ceil(padded_capacity * static_cast<double>(max_tokens)));
  return std::clamp<std::int64_t>(share, std::min<std::int64_t>(1, max_tokens), max_tokens);
}

ExchangeSizes exchange_sizes(BlockKind kind,
                             int ep_size,
                             int num_experts,
                             int top_k,
                             std::int64_t row_bytes,
                             std::int64_t max_tokens,
                             double padded_capacity) {
  ExchangeSizes sizes;
  sizes.block = {.num_experts = num_experts,
                 .top_k = top_k,
                 .row_bytes = row_bytes,
                 .capacity = block_capacity(kind, max_tokens, padded_capacity)};
  sizes.sender = {
      .ep_size = ep_size, .num_experts = num_experts, .top_k = top_k, .max_tokens = max_tokens};
  const std::int64_t experts_per_rank = num_experts / ep_size;
  const std::int64_t blocks = ep_size;
  sizes.expert_rows = sizes.expert_rows_of(experts_per_rank);
  // Positions and rows are int32 on the device.
  constexpr std::int64_t most_rows = std::numeric_limits<std::int32_t>::max();
  DOVETAIL_CHECK(sizes.expert_rows <= most_rows && blocks * max_tokens * top_k <= most_rows,
                 "more than 2^31 - 1 rows in one ubatch");
  const bool has_peers = ep_size > 1;
  sizes.send_bytes =
      has_peers && kind != BlockKind::gather ? blocks * sizes.block.block_bytes() : 0;
  sizes.receive_bytes = blocks * sizes.block.block_bytes();
  sizes.send_back_bytes = has_peers ? blocks * sizes.block.part_bytes() : 0;
  sizes.received_back_bytes = blocks * sizes.block.part_bytes();
  sizes.choice_rows = blocks * sizes.block.capacity * top_k;
  sizes.output_bytes = max_tokens * row_bytes;
  if (shares_memory(kind) && has_peers) {
    sizes.wire_bytes = kWireCalls * (FlagLayout{ep_size}.bytes() + std::int64_t{kMostPushCtas} * 4);
  }
  const std::int64_t words =
      sizes.sender.words() + sizes.choice_rows + experts_per_rank * (blocks + 1);
  sizes.total_bytes = sizes.send_bytes + sizes.receive_bytes + sizes.send_back_bytes +
                      sizes.received_back_bytes + sizes.expert_rows * row_bytes +
                      sizes.output_bytes + sizes.wire_bytes + words * 4;
  return sizes;
}

}  // namespace dovetail
