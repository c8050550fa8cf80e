#include "framework/step/step_setup.hpp"

namespace dovetail {

ExchangeShape exchange_shape(const StepSetup& setup, int num_ubatches) {
  const auto& dims = setup.model.dims();
  return {.ep_size = setup.ranks.grid.expert_parallel,
          .ep_rank = setup.ranks.ep_rank().value,
          .num_experts = dims.num_experts,
          .top_k = dims.top_k,
          .hidden = dims.hidden,
          .dtype = dims.dtype,
          .num_ubatches = num_ubatches,
          .sum_order = sum_order(setup.execution.numerics, setup.device.is_gpu())};
}

}  // namespace dovetail
