#include "framework/comm/exchange/exchange_checks.hpp"

#include <string>

#include "framework/base/check.hpp"
#include "framework/base/text.hpp"

namespace dovetail {

void check_shape(const ExchangeShape& shape) {
  DOVETAIL_CHECK(
      shape.ep_size >= 1 && shape.ep_rank >= 0 && shape.ep_rank < shape.ep_size,
      "ep_rank " + std::to_string(shape.ep_rank) + " of " + std::to_string(shape.ep_size));
  DOVETAIL_CHECK(shape.num_experts >= 1 && shape.num_experts % shape.ep_size == 0,
                 counted(shape.num_experts, "expert") + " over " + counted(shape.ep_size, "rank"));
  DOVETAIL_CHECK(
      shape.top_k >= 1 && shape.top_k <= shape.num_experts,
      "top_k " + std::to_string(shape.top_k) + " of " + counted(shape.num_experts, "expert"));
  DOVETAIL_CHECK(shape.hidden >= 1, "hidden " + std::to_string(shape.hidden));
  DOVETAIL_CHECK(
      shape.dtype == at::kFloat || shape.dtype == at::kBFloat16 || shape.dtype == at::kHalf,
      std::string("dtype ") + c10::toString(shape.dtype) + "; allowed: float32, bfloat16, float16");
  DOVETAIL_CHECK(shape.num_ubatches >= 1, counted(shape.num_ubatches, "ubatch"));
}

bool same_grid(const ExchangeShape& a, const ExchangeShape& b) {
  return a.ep_size == b.ep_size && a.ep_rank == b.ep_rank && a.num_experts == b.num_experts &&
         a.top_k == b.top_k && a.sum_order == b.sum_order;
}

void check_tensor(const at::Tensor& tensor,
                  at::IntArrayRef sizes,
                  at::ScalarType dtype,
                  at::DeviceType device,
                  const char* name) {
  DOVETAIL_CHECK(tensor.defined() && tensor.device().type() == device && tensor.is_contiguous() &&
                     tensor.scalar_type() == dtype && tensor.sizes() == sizes,
                 std::string(name) + " must be a contiguous " + c10::toString(dtype) +
                     " tensor on " + c10::DeviceTypeName(device, /*lower_case=*/true) + " with " +
                     counted(sizes[0], "row") + " of " + std::to_string(sizes[1]));
}

std::int64_t check_tokens(const RoutedTokens& tokens,
                          const ExchangeShape& shape,
                          at::DeviceType device) {
  const auto& hidden = tokens.hidden;
  DOVETAIL_CHECK(hidden.defined() && hidden.dim() == 2, "hidden must be [T, hidden]");
  const auto num_tokens = hidden.size(0);
  check_tensor(hidden, {num_tokens, shape.hidden}, shape.dtype, device, "hidden");
  check_tensor(tokens.expert_ids, {num_tokens, shape.top_k}, at::kLong, device, "expert_ids");
  check_tensor(tokens.weights, {num_tokens, shape.top_k}, at::kFloat, device, "weights");
  return num_tokens;
}

}  // namespace dovetail
