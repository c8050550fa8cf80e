#include "framework/step/policy_context.hpp"

#include <chrono>

namespace dovetail {

WaitPolicy policy_wait(const PolicyRunContext& context) {
  auto wait = context.rank_context.wait;
  wait.timeout = std::chrono::seconds(context.policy.execution.timeout_s);
  return wait;
}

ExchangeShape exchange_shape(const PolicyRunContext& context, int num_ubatches) {
  const auto& ranks = context.rank_context;
  const auto& dims = context.model.dims();
  return {.ep_size = ranks.grid.expert_parallel,
          .ep_rank = ranks.ep_rank().value,
          .num_experts = dims.num_experts,
          .top_k = dims.top_k,
          .hidden = dims.hidden,
          .dtype = dims.dtype,
          .num_ubatches = num_ubatches};
}

at::Tensor given_at(const std::vector<at::Tensor>& given, std::size_t step) {
  return given.empty() ? at::Tensor() : given.at(step);
}

}  // namespace dovetail
