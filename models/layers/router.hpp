// The router's choice: softmax over all experts, then the k best, as in Qwen3-MoE.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "framework/config/choices.hpp"

namespace dovetail {

struct Routing {
  at::Tensor expert_ids;   ///< [T, k] int64, descending logits, ties by lower id
  at::Tensor weights;      ///< [T, k] float32: probabilities, made to add up to 1 if asked
  at::Tensor natural_ids;  ///< [T, k] int64: the k best by these logits, in the same order;
                           ///< expert_ids itself unless those are replayed
};

/// logits [T, experts], any float dtype; 1 <= k <= experts. A stable sort rather than a top-k:
/// which of two equal logits wins must not depend on the device or the number of rows.
/// batch_invariant: each row by itself.
Routing route_top_k(const at::Tensor& logits,
                    std::int64_t k,
                    bool normalize,
                    Numerics numerics = Numerics::fast);

/// The weights that these logits give to experts chosen before: expert_ids [T, k] int64, -1 =
/// padding (stays -1, weight unspecified). natural_ids are what route_top_k would have chosen.
/// batch_invariant: each row by itself.
Routing route_replayed(const at::Tensor& logits,
                       const at::Tensor& expert_ids,
                       bool normalize,
                       Numerics numerics = Numerics::fast);

/// The routing of a ubatch: of `replay_ids` [T, k] where defined, else the k best. Padding rows
/// (slot_mapping [T] < 0) have ids -1, and any finite weights.
Routing route_tokens(const at::Tensor& logits,
                     const at::Tensor& replay_ids,
                     const at::Tensor& slot_mapping,
                     std::int64_t k,
                     bool normalize,
                     Numerics numerics = Numerics::fast);

}  // namespace dovetail
