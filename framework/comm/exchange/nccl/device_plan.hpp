// What a device exchange keeps of a prepared ubatch, so that passes without routing can run it
// again.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/comm/exchange/exchange.hpp"
#include "framework/comm/exchange/nccl/block_layout.hpp"

namespace dovetail {

/// Copies on the device, made on the streams of plan() and arrange(). Where these were captured, a
/// replay writes them anew.
struct DevicePlan final : public ExchangePlan {
  ExchangeShape shape;
  BlockKind kind = BlockKind::gather;
  BlockLayout block;
  SenderLayout layout;
  std::int64_t num_tokens = 0;
  int num_groups = 1;
  int layer = -1;  ///< for messages

  at::Tensor sender;  ///< int32 [layout.words()]
  at::Tensor heads;   ///< uint8 [R][block.head_bytes(capacity)]: headers and metadata that arrived;
                      ///< undefined until arrange has run

  // ragged with more than one rank: rows per peer, known once dispatch has run.
  std::vector<std::int32_t> rows_out;
  std::vector<std::int32_t> rows_in;

  bool complete() const { return heads.defined(); }

  /// Synchronises the device. Throws ContractError before arrange has run.
  std::vector<std::int64_t> tokens_per_expert() const override;
};

}  // namespace dovetail
