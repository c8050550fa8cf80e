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

InjectedFault* begin_context_fault(const StepSetup& setup) {
  if (setup.fault == nullptr || !setup.fault->may_be_in_contexts()) {
    return nullptr;
  }
  setup.fault->set_iteration(kContextIteration);
  return setup.fault;
}

}  // namespace dovetail
