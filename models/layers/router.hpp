// The router's choice of a token's experts and their weights: scores of all experts, in some models
// of groups of them, then the k best.
#pragma once

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

#include "framework/config/choices.hpp"
#include "framework/plan/expert_groups.hpp"

namespace dovetail {

enum class RouterScore { softmax, sigmoid };

/// How a model routes. Defaults are Mixtral's.
struct RouterRule {
  std::int64_t top_k = 0;
  RouterScore score = RouterScore::softmax;  ///< of all experts' logits
  ExpertGroups groups;
  bool normalize = false;   ///< a token's weights are made to add up to 1
  double scale = 1;         ///< that weights are multiplied with then (routed_scaling_factor)
  bool is_float32 = false;  ///< the product that gives the logits, whatever the run's dtype
};

struct Routing {
  at::Tensor expert_ids;   ///< [T, k] int64, best first, ties by lower id
  at::Tensor weights;      ///< [T, k] float32: scores, normalised and scaled by the rule
  at::Tensor natural_ids;  ///< [T, k] int64: the k best, in the same order; expert_ids itself
                           ///< unless those are replayed
  at::Tensor scores;       ///< [T, experts] float32: what decided, where that is not the logits
};

/// logits [T, experts], any float dtype; 1 <= k <= experts. Softmax goes up with the logits, so
/// these decide. Of sigmoid scores those with `bias` [experts] float32 (undefined = none) decide
/// (arXiv:2408.15664), and the weights are without it. A stable sort rather than a top-k: which of
/// two equal scores wins must not depend on the device or the number of rows. batch_invariant: each
/// row by itself.
Routing route_top_k(const at::Tensor& logits,
                    const at::Tensor& bias,
                    const RouterRule& rule,
                    Numerics numerics = Numerics::fast);

/// The weights that these logits give to experts chosen before: expert_ids [T, k] int64, -1 =
/// padding (stays -1, weight unspecified). natural_ids are what route_top_k would have chosen.
/// batch_invariant: each row by itself.
Routing route_replayed(const at::Tensor& logits,
                       const at::Tensor& bias,
                       const at::Tensor& expert_ids,
                       const RouterRule& rule,
                       Numerics numerics = Numerics::fast);

/// The routing of a ubatch: of `replay_ids` [T, k] where defined, else the k best. Padding rows
/// (slot_mapping [T] < 0) have ids -1, and any finite weights. `run_dtype`: of the run, where its
/// logits have another one; what computes a ubatch on a GPU goes by it (gpu::serves).
Routing route_tokens(const at::Tensor& logits,
                     const at::Tensor& bias,
                     const at::Tensor& replay_ids,
                     const at::Tensor& slot_mapping,
                     const RouterRule& rule,
                     Numerics numerics = Numerics::fast,
                     std::optional<at::ScalarType> run_dtype = std::nullopt);

}  // namespace dovetail
