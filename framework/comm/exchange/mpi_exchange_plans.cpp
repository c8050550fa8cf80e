// Plans of an MpiExchange: kept and run again.
#include <utility>

#include "framework/base/check.hpp"
#include "framework/comm/exchange/exchange_checks.hpp"
#include "framework/comm/exchange/mpi_exchange_state.hpp"

namespace dovetail {

std::shared_ptr<ExchangePlan> MpiExchange::plan(int ubatch) {
  DOVETAIL_CHECK(ubatch >= 0 && ubatch < shape_.num_ubatches, where(ubatch, "plan"));
  const auto& plan = state_->ubatches[index(ubatch)].plan;
  DOVETAIL_CHECK(plan != nullptr, where(ubatch, "plan") + ": nothing was prepared");
  return plan;
}

void MpiExchange::adopt(int ubatch, std::shared_ptr<ExchangePlan> plan) {
  auto& slot = slot_of(ubatch, "adopt");
  DOVETAIL_CHECK(slot.counts.empty(),
                 where(ubatch, "adopt") + ": no dispatch has followed prepare");
  auto ours = std::dynamic_pointer_cast<RoutingPlan>(std::move(plan));
  DOVETAIL_CHECK(ours != nullptr && ours->selection == selection_ && same_grid(ours->shape, shape_),
                 where(ubatch, "adopt") + ": the plan was made by another kind of exchange");
  DOVETAIL_CHECK(ours->complete,
                 where(ubatch, "adopt") + ": the plan is not complete: its dispatch has not run");
  const int rank = shape_.ep_rank;
  slot.packed.reserve(static_cast<std::int64_t>(ours->packed_tokens.size()));
  slot.received.reserve(ours->num_arrivals() - rows_of_rank(*ours, ours->arrived_count, rank));
  slot.go_back.reserve(ours->num_go_back());
  slot.returned.reserve(sum_of(ours->return_count) - rows_of_rank(*ours, ours->return_count, rank));
  slot.made_rows.clear();
  slot.plan = std::move(ours);
  slot.adopted = true;
  slot.progress.restart();
  slot.prepared = true;
}

void MpiExchange::prepare_again(int ubatch,
                                const RoutedTokens& tokens,
                                std::shared_ptr<ExchangePlan> plan) {
  adopt(ubatch, std::move(plan));
  auto& slot = state_->ubatches[index(ubatch)];
  plan_sends(tokens, slot.planned_again);
  pack(slot, tokens.hidden);
}

}  // namespace dovetail
