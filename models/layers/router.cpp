#include "models/layers/router.hpp"

#include <limits>
#include <tuple>

#include <ATen/ops/add.h>
#include <ATen/ops/clamp_min.h>
#include <ATen/ops/div.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/lt.h>
#include <ATen/ops/masked_fill.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/sum.h>

#include "framework/base/check.hpp"
#include "models/layers/cuda/layers.hpp"
#include "models/layers/row_math.hpp"
#include "models/layers/tiles.hpp"

namespace dovetail {
namespace {

bool goes_row_by_row(const at::Tensor& x, Numerics numerics) {
  return numerics == Numerics::batch_invariant && x.is_cpu();
}

at::Tensor sigmoid_of(const at::Tensor& logits, Numerics numerics) {
  return goes_row_by_row(logits, numerics) ? row_math::sigmoid(logits) : at::sigmoid(logits);
}

at::Tensor normalized(const at::Tensor& weights, Numerics numerics) {
  if (goes_row_by_row(weights, numerics)) {
    return row_math::normalized(weights);
  }
  const auto sum_of = [](const at::Tensor& rows) { return at::sum(rows, -1, /*keepdim=*/true); };
  // How a GPU's sum of a row is cut depends on the number of rows.
  const bool by_blocks = numerics == Numerics::batch_invariant && weights.size(0) > 0;
  return at::div(weights, by_blocks ? by_row_blocks(weights, sum_of) : sum_of(weights));
}

/// `scores` are the sigmoids of the logits where the rule has such.
at::Tensor weights_of(const at::Tensor& logits,
                      const at::Tensor& scores,
                      const at::Tensor& expert_ids,
                      const RouterRule& rule,
                      Numerics numerics) {
  at::Tensor weights;
  if (rule.score == RouterScore::sigmoid) {
    weights = at::gather(scores, -1, expert_ids);
  } else if (goes_row_by_row(logits, numerics)) {
    weights = row_math::chosen_probabilities(logits, expert_ids);
  } else {
    weights = at::gather(at::softmax(logits, -1), -1, expert_ids);
  }
  if (rule.normalize) {
    weights = normalized(weights, numerics);
  }
  return rule.scale == 1 ? weights : weights.mul_(rule.scale);
}

/// Indices of the k largest of each row, the largest first, ties by lower index.
at::Tensor largest_of(const at::Tensor& values, std::int64_t k) {
  const auto [sorted, order] = at::sort(values, /*stable=*/true, /*dim=*/-1, /*descending=*/true);
  return order.narrow(1, 0, k).contiguous();
}

/// `scores` [T, experts] with those outside of a token's best groups at -infinity.
at::Tensor within_best_groups(const at::Tensor& scores, const ExpertGroups& groups) {
  const at::Tensor by_group = scores.unflatten(1, {groups.num_groups, -1});
  const auto [sorted, order] = at::sort(by_group, /*stable=*/true, -1, /*descending=*/true);
  at::Tensor of_groups = sorted.select(-1, 0);
  if (groups.score == GroupScore::sum_of_two) {
    of_groups = at::add(of_groups, sorted.select(-1, 1));
  }
  const at::Tensor chosen = largest_of(of_groups, groups.num_chosen);
  const at::Tensor is_left_out =
      at::ones(of_groups.sizes(), of_groups.options().dtype(at::kBool)).scatter_(1, chosen, false);
  return at::masked_fill(
             by_group, is_left_out.unsqueeze(-1), -std::numeric_limits<double>::infinity())
      .flatten(1);
}

at::Tensor choose(const at::Tensor& deciding, const RouterRule& rule, std::int64_t k) {
  const bool limited = rule.groups.are_limited();
  const at::Tensor allowed = limited ? within_best_groups(deciding, rule.groups) : deciding;
  return largest_of(allowed, k);
}

/// What weights and choices come from, in float32.
struct Scores {
  at::Tensor logits;
  at::Tensor sigmoids;  ///< undefined for softmax, as the next
  at::Tensor biased;

  const at::Tensor& deciding() const { return biased.defined() ? biased : logits; }
};

Scores scores_of(const at::Tensor& logits,
                 const at::Tensor& bias,
                 const RouterRule& rule,
                 Numerics numerics) {
  Scores scores = {.logits = logits.to(at::kFloat), .sigmoids = {}, .biased = {}};
  if (rule.score == RouterScore::sigmoid) {
    scores.sigmoids = sigmoid_of(scores.logits, numerics);
    scores.biased = bias.defined() ? at::add(scores.sigmoids, bias) : scores.sigmoids;
  } else {
    DOVETAIL_CHECK(!bias.defined(), "a bias of softmax scores");
  }
  return scores;
}

}  // namespace

Routing route_top_k(const at::Tensor& logits,
                    const at::Tensor& bias,
                    const RouterRule& rule,
                    Numerics numerics) {
  const Scores scores = scores_of(logits, bias, rule, numerics);
  const at::Tensor best = choose(scores.deciding(), rule, rule.top_k);
  return {.expert_ids = best,
          .weights = weights_of(scores.logits, scores.sigmoids, best, rule, numerics),
          .natural_ids = best,
          .scores = scores.biased};
}

Routing route_replayed(const at::Tensor& logits,
                       const at::Tensor& bias,
                       const at::Tensor& expert_ids,
                       const RouterRule& rule,
                       Numerics numerics) {
  DOVETAIL_CHECK_EQ(expert_ids.size(0), logits.size(0));
  const Scores scores = scores_of(logits, bias, rule, numerics);
  return {.expert_ids = expert_ids,
          .weights = weights_of(
              scores.logits, scores.sigmoids, at::clamp_min(expert_ids, 0), rule, numerics),
          .natural_ids = choose(scores.deciding(), rule, expert_ids.size(1)),
          .scores = scores.biased};
}

Routing route_tokens(const at::Tensor& logits,
                     const at::Tensor& bias,
                     const at::Tensor& replay_ids,
                     const at::Tensor& slot_mapping,
                     const RouterRule& rule,
                     Numerics numerics,
                     std::optional<at::ScalarType> run_dtype) {
  if constexpr (gpu::kIsBuilt) {
    if (run_dtype.value_or(logits.scalar_type()) == at::kBFloat16 && gpu::can_route(logits, rule)) {
      return gpu::route(logits, bias, replay_ids, slot_mapping, rule);
    }
  }
  Routing routing = replay_ids.defined() ? route_replayed(logits, bias, replay_ids, rule, numerics)
                                         : route_top_k(logits, bias, rule, numerics);
  const at::Tensor is_padding = at::lt(slot_mapping, 0).unsqueeze(1);
  routing.expert_ids = at::masked_fill(routing.expert_ids, is_padding, -1);
  routing.natural_ids = replay_ids.defined() ? at::masked_fill(routing.natural_ids, is_padding, -1)
                                             : routing.expert_ids;
  return routing;
}

}  // namespace dovetail
