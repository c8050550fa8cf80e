// Plans of an NcclExchange: made, filled and run again.
#include <utility>

#include <ATen/ops/empty.h>

#include "framework/base/check.hpp"
#include "framework/comm/exchange/exchange_checks.hpp"
#include "framework/comm/exchange/nccl/nccl_exchange_state.hpp"

namespace dovetail {
std::shared_ptr<ExchangePlan> NcclExchange::plan(int ubatch) {
  auto& slot = at(ubatch, "plan");
  if (slot.used) {
    return slot.used;
  }
  DOVETAIL_CHECK(slot.prepared, where(ubatch, "plan") + ": nothing was prepared");
  if (!slot.kept) {
    auto made = std::make_shared<DevicePlan>();
    made->shape = shape_;
    made->kind = kind_;
    made->block = slot.sizes.block;
    made->layout = slot.sizes.sender;
    made->num_tokens = slot.num_tokens;
    made->layer = slot.layer;
    made->num_groups = slot.num_groups;
    made->sender = slot.sender.narrow(0, 0, made->layout.words()).clone();
    slot.kept = std::move(made);
  }
  return slot.kept;
}

void NcclExchange::adopt(int ubatch, std::shared_ptr<ExchangePlan> plan) {
  auto& slot = at(ubatch, "adopt");
  auto ours = std::dynamic_pointer_cast<DevicePlan>(std::move(plan));
  DOVETAIL_CHECK(ours != nullptr && ours->kind == kind_ && same_grid(ours->shape, shape_),
                 where(ubatch, "adopt") + ": the plan was made by another kind of exchange");
  DOVETAIL_CHECK(ours->complete(),
                 where(ubatch, "adopt") + ": the plan is not complete: its arrange has not run");
  DOVETAIL_CHECK(ours->block == slot.sizes.block && ours->layout.max_tokens == slot.max_tokens,
                 where(ubatch, "adopt") + ": the plan is of a step with other bounds");
  slot.num_tokens = ours->num_tokens;
  slot.layer = ours->layer;
  slot.num_groups = ours->num_groups;
  slot.rows_out = ours->rows_out;
  slot.rows_in = ours->rows_in;
  slot.used = std::move(ours);
  slot.kept.reset();
}

void NcclExchange::prepare_again(int ubatch,
                                 const RoutedTokens& tokens,
                                 std::shared_ptr<ExchangePlan> plan) {
  adopt(ubatch, std::move(plan));
  const auto& slot = at(ubatch, "prepare_again");
  const auto num_tokens = check_tokens(tokens, shape_, at::kCUDA);
  DOVETAIL_CHECK(num_tokens == slot.num_tokens && tokens.num_groups == slot.num_groups,
                 where(ubatch, "prepare_again") + ": the plan was made of other tokens");
  scan(ubatch, slot, tokens);  // the adopted plan has its own sender
  pack(slot, tokens.hidden, sender_of(slot));
}

void NcclExchange::keep_arrivals(Ubatch& slot) const {
  const auto& block = slot.sizes.block;
  auto& plan = *slot.kept;
  if (!plan.heads.defined()) {
    plan.heads = device_tensor({shape_.ep_size, block.head_bytes(block.capacity)}, at::kByte);
  }
  const auto width = static_cast<std::size_t>(plan.heads.size(1));
  check_cuda(cudaMemcpy2DAsync(bytes_of(plan.heads),
                               width,
                               bytes_of(slot.receive),
                               static_cast<std::size_t>(block.block_bytes()),
                               width,
                               static_cast<std::size_t>(shape_.ep_size),
                               cudaMemcpyDeviceToDevice,
                               current_stream()),
             "keeping what arrived");
}

}  // namespace dovetail
