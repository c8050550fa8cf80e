#include "framework/comm/exchange/bench/bench_tokens.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>

namespace dovetail {

BenchTokens make_bench_tokens(BenchRouting routing,
                              const ExchangeShape& shape,
                              std::int64_t tokens,
                              std::uint64_t seed,
                              at::Device device) {
  const auto experts = bench_experts(routing, shape, shape.ep_rank, tokens, seed);
  BenchTokens made;
  made.expert_ids =
      at::tensor(experts, at::kLong).view({tokens, shape.top_k}).to(device).contiguous();
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  const auto rows = at::arange(tokens, options).unsqueeze(1);
  const auto columns = at::arange(shape.hidden, options).unsqueeze(0);
  made.hidden = (rows * 3 + columns * (rows + shape.ep_rank + 1) + static_cast<std::int64_t>(seed))
                    .bitwise_and(3)
                    .to(shape.dtype)
                    .contiguous();
  const auto choices = at::arange(shape.top_k, options).unsqueeze(0);
  made.weights = ((rows + choices).bitwise_and(1).to(at::kFloat) + 1).mul(0.5).contiguous();
  return made;
}

at::Tensor& write_bench_factors(at::Tensor& expert_ids) {
  return expert_ids.bitwise_and_(1).add_(1);
}

std::int64_t BenchTokens::num_routed() const {
  return expert_ids.ge(0).any(1).sum().item<std::int64_t>();
}

std::int64_t count_wrong(const BenchTokens& in, const at::Tensor& output, bool scaled) {
  auto weights = in.weights * in.expert_ids.ge(0);
  if (scaled) {
    auto factors = at::Tensor(in.expert_ids.clone());
    weights = weights * write_bench_factors(factors);
  }
  const auto wanted =
      (in.hidden.to(at::kFloat) * weights.sum(1, /*keepdim=*/true)).to(output.scalar_type());
  return output.ne(wanted).sum().item<std::int64_t>();
}

}  // namespace dovetail
