// What a device exchange keeps of a prepared ubatch, so that passes without routing can run it
// again.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/comm/exchange/exchange.hpp"
#include "framework/comm/exchange/nccl/block_layout.hpp"

namespace dovetail {

/// Rows of one call to and from each rank of the group.
struct PeerRows {
  std::vector<std::int32_t> sent;
  std::vector<std::int32_t> received;
};

inline BlockShape block_shape(const ExchangeShape& shape) {
  return {.ep_size = shape.ep_size,
          .num_experts = shape.num_experts,
          .top_k = shape.top_k,
          .row_bytes = shape.row_bytes(),
          .returns_choices = shape.returns_choices()};
}

/// Copies on the device, made on the streams of plan() and arrange(). Where these were captured, a
/// replay writes them anew.
struct DevicePlan final : public ExchangePlan {
  ExchangeShape shape;
  BlockKind kind = BlockKind::gather;
  BlockLayout block;
  SenderLayout layout;
  std::int64_t num_tokens = 0;

  at::Tensor sender;  ///< int32 [layout.words()]
  at::Tensor heads;   ///< uint8 [R][block.head_bytes(capacity)]: headers and metadata that arrived;
                      ///< undefined until arrange has run

  // ragged with more than one rank: known once dispatch has run.
  PeerRows dispatched;
  PeerRows combined;

  bool complete() const { return heads.defined(); }

  /// Synchronises the device. Throws ContractError before arrange has run.
  std::vector<std::int64_t> tokens_per_expert() const override;
};

}  // namespace dovetail
