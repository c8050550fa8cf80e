#include "models/layers/router.hpp"

#include <tuple>

#include <ATen/ops/clamp_min.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/lt.h>
#include <ATen/ops/masked_fill.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/sum.h>

#include "framework/base/check.hpp"
#include "models/layers/cuda/layers.hpp"
#include "models/layers/row_math.hpp"
#include "models/layers/tiles.hpp"

namespace dovetail {
namespace {

at::Tensor weights_of(const at::Tensor& logits,
                      const at::Tensor& expert_ids,
                      bool normalize,
                      Numerics numerics) {
  if (numerics == Numerics::batch_invariant && logits.is_cpu()) {
    return row_math::chosen_probabilities(logits, expert_ids, normalize);
  }
  at::Tensor weights = at::gather(at::softmax(logits, -1), -1, expert_ids);
  if (normalize) {
    const auto sum_of = [](const at::Tensor& rows) { return at::sum(rows, -1, /*keepdim=*/true); };
    // How a GPU's sum of a row is cut depends on the number of rows.
    const bool by_blocks = numerics == Numerics::batch_invariant && weights.size(0) > 0;
    weights.div_(by_blocks ? by_row_blocks(weights, sum_of) : sum_of(weights));
  }
  return weights;
}

at::Tensor best_experts(const at::Tensor& logits, std::int64_t k) {
  const auto [sorted, order] = at::sort(logits, /*stable=*/true, /*dim=*/-1, /*descending=*/true);
  return order.narrow(1, 0, k).contiguous();
}

}  // namespace

Routing route_top_k(const at::Tensor& logits, std::int64_t k, bool normalize, Numerics numerics) {
  const at::Tensor wide = logits.to(at::kFloat);
  const at::Tensor best = best_experts(wide, k);
  return {.expert_ids = best,
          .weights = weights_of(wide, best, normalize, numerics),
          .natural_ids = best};
}

Routing route_replayed(const at::Tensor& logits,
                       const at::Tensor& expert_ids,
                       bool normalize,
                       Numerics numerics) {
  DOVETAIL_CHECK_EQ(expert_ids.size(0), logits.size(0));
  const at::Tensor wide = logits.to(at::kFloat);
  return {.expert_ids = expert_ids,
          .weights = weights_of(wide, at::clamp_min(expert_ids, 0), normalize, numerics),
          .natural_ids = best_experts(wide, expert_ids.size(1))};
}

Routing route_tokens(const at::Tensor& logits,
                     const at::Tensor& replay_ids,
                     const at::Tensor& slot_mapping,
                     std::int64_t k,
                     bool normalize,
                     Numerics numerics) {
  if constexpr (gpu::kIsBuilt) {
    if (gpu::serves(logits) && gpu::can_route(logits, k)) {
      return gpu::route(logits, replay_ids, slot_mapping, k, normalize);
    }
  }
  Routing routing = replay_ids.defined() ? route_replayed(logits, replay_ids, normalize, numerics)
                                         : route_top_k(logits, k, normalize, numerics);
  const at::Tensor is_padding = at::lt(slot_mapping, 0).unsqueeze(1);
  routing.expert_ids = at::masked_fill(routing.expert_ids, is_padding, -1);
  routing.natural_ids = replay_ids.defined() ? at::masked_fill(routing.natural_ids, is_padding, -1)
                                             : routing.expert_ids;
  return routing;
}

}  // namespace dovetail
