#include "framework/step/rounding_meter.hpp"

#include <cstdint>

#include <ATen/Functions.h>

#include "framework/compare/tolerance.hpp"

namespace dovetail {
namespace {

/// Sums of squares of rows [T, H].
at::Tensor squares(const at::Tensor& rows) {
  const auto wide = rows.to(at::kFloat);
  return at::mul(wide, wide).sum(1);
}

/// expert_excess of each row.
at::Tensor excess(const at::Tensor& before, const UbatchState& state) {
  auto sum = state.weights.sum(1);
  if (state.shared_output.defined()) {
    sum = at::add(sum, 1);
  }
  const auto of_weights = at::rsub(at::reciprocal(at::mul(sum, sum)), 1);
  const auto share = at::div(squares(at::sub(state.hidden, before)), squares(state.hidden));
  return at::mul(share, at::clamp_min(of_weights, 0));
}

/// What `roundings` was before the first layer.
at::Tensor of_rows(const at::Tensor& roundings, const at::Tensor& hidden) {
  return roundings.defined() ? roundings
                             : at::zeros({hidden.size(0)}, hidden.options().dtype(at::kFloat));
}

}  // namespace

void RoundingMeter::add_experts(std::size_t layer,
                                const at::Tensor& before,
                                const UbatchState& state,
                                at::Tensor& roundings) {
  const auto own = excess(before, state);
  const auto is_padding = at::lt(state.expert_ids.select(1, 0), 0);
  roundings = at::masked_fill(
      at::add(at::mul(of_rows(roundings, before), at::add(at::mul(own, kGrowthInExperts), 1)),
              at::mul(at::add(own, 1), kRoundingsPerLayer)),
      is_padding,
      0);
  keep(layer, roundings);
}

void RoundingMeter::add_dense(std::size_t layer, const UbatchState& state, at::Tensor& roundings) {
  roundings = at::add(of_rows(roundings, state.hidden), kRoundingsPerLayer);
  keep(layer, roundings);
}

void RoundingMeter::keep(std::size_t layer, const at::Tensor& roundings) {
  if (roundings.size(0) == 0) {
    return;
  }
  if (!most_.defined()) {
    most_ = at::zeros({static_cast<std::int64_t>(num_layers_)}, roundings.options());
  }
  auto kept = most_.select(0, static_cast<std::int64_t>(layer));
  kept.copy_(at::maximum(kept, roundings.amax()));
}

std::vector<float> RoundingMeter::most() const {
  if (!most_.defined()) {
    return std::vector<float>(num_layers_, 0);
  }
  const auto values = most_.cpu();
  return {values.const_data_ptr<float>(), values.const_data_ptr<float>() + values.numel()};
}

}  // namespace dovetail
