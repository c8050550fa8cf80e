#include "framework/comm/exchange/mpi_exchange.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "framework/base/check.hpp"
#include "framework/base/log.hpp"
#include "framework/base/text.hpp"
#include "framework/base/types.hpp"
#include "framework/comm/exchange/exchange_checks.hpp"
#include "framework/comm/exchange/mpi_exchange_state.hpp"

namespace dovetail {
namespace {

static_assert(kMaxUbatches * kNumMessageKinds <= 32767, "MPI guarantees no larger tags");

// By stage: the call that was made last.
constexpr std::array<const char*, 6> kStageNames = {
    "idle", "prepare", "dispatch", "arrange", "reduce", "combine"};

const ExchangeShape& checked(const ExchangeShape& shape, const ExchangeSetting& setting) {
  check_shape(shape);
  DOVETAIL_CHECK(shape.sum_order != SumOrder::by_expert, "host exchanges know no tree of experts");
  DOVETAIL_CHECK(shape.num_ubatches <= kMaxUbatches, counted(shape.num_ubatches, "ubatch"));
  for (const auto* comm : {setting.exchange_comm, setting.counts_comm}) {
    DOVETAIL_CHECK(comm != nullptr, "an exchange over MPI needs its two communicators");
    DOVETAIL_CHECK_EQ(comm->size(), shape.ep_size);
    DOVETAIL_CHECK_EQ(comm->rank(), shape.ep_rank);
  }
  return shape;
}

}  // namespace

MpiExchange::MpiExchange(RowSelection selection,
                         const ExchangeShape& shape,
                         const ExchangeSetting& setting)
    : selection_(selection),
      shape_(checked(shape, setting)),
      exchange_comm_(setting.exchange_comm->raw()),
      counts_comm_(setting.counts_comm->raw()),
      policy_(setting.wait),
      row_bytes_(shape.row_bytes()),
      state_(std::make_unique<State>(shape, row_bytes_)) {}

MpiExchange::~MpiExchange() {
  bool idle = state_->wire.abandon();
  for (auto& slot : state_->ubatches) {
    idle = slot.counts.abandon() && idle;
  }
  if (!idle) {
    log_line("exchange: messages still in flight; their buffers are kept until the process ends");
    static_cast<void>(state_.release());
  }
}

std::string MpiExchange::where(int ubatch, const char* call) const {
  return std::string(call) + " of ubatch " + std::to_string(ubatch) + " on ep rank " +
         std::to_string(shape_.ep_rank);
}

MpiExchange::Ubatch& MpiExchange::enter(int ubatch, Stage after, const char* call) {
  DOVETAIL_CHECK(ubatch >= 0 && ubatch < shape_.num_ubatches,
                 where(ubatch, call) + ": there are " + counted(shape_.num_ubatches, "ubatch"));
  if (failed_) {
    throw RunError(where(ubatch, call) + ": the exchange failed earlier");
  }
  auto& slot = state_->ubatches[index(ubatch)];
  // A new prepare may drop what came before, but not counts that are on their way.
  const bool in_order = after == Stage::idle
                            ? slot.counts.empty()
                            : slot.stage == after || (slot.adopted && after != Stage::arranged);
  DOVETAIL_CHECK(in_order,
                 where(ubatch, call) + " must follow " +
                     kStageNames.at(static_cast<std::size_t>(after)) + "; the last call was " +
                     kStageNames.at(static_cast<std::size_t>(slot.stage)));
  return slot;
}

template <class Body>
void MpiExchange::on_wire(Body body) {
  try {
    body();
  } catch (...) {
    failed_ = true;
    throw;
  }
}

void MpiExchange::pack(Ubatch& slot, const at::Tensor& hidden) const {
  const auto& plan = *slot.plan;
  check_tensor(hidden, {plan.num_tokens, shape_.hidden}, shape_.dtype, at::kCPU, "hidden");
  slot.packed.reserve(static_cast<std::int64_t>(plan.packed_tokens.size()));
  copy_rows(static_cast<const std::byte*>(hidden.const_data_ptr()),
            plan.packed_tokens,
            row_bytes_,
            slot.packed.data());
}

void MpiExchange::prepare(int ubatch, const RoutedTokens& tokens) {
  auto& slot = enter(ubatch, Stage::idle, "prepare");
  const auto num_choices =
      static_cast<std::size_t>(check_tokens(tokens, shape_, at::kCPU) * shape_.top_k);

  // The stage is idle until all is well: a bad batch must not leave a half-made plan.
  slot.stage = Stage::idle;
  slot.adopted = false;
  if (!slot.plan || slot.plan.use_count() > 1) {
    slot.plan = std::make_shared<RoutingPlan>();
  }
  plan_sends(shape_,
             selection_,
             {tokens.expert_ids.const_data_ptr<std::int64_t>(), num_choices},
             {tokens.weights.const_data_ptr<float>(), num_choices},
             *slot.plan);
  on_wire([&] { post_counts(ubatch, slot); });
  pack(slot, tokens.hidden);
  slot.stage = Stage::prepared;
}

void MpiExchange::dispatch(int ubatch) {
  auto& slot = enter(ubatch, Stage::prepared, "dispatch");
  on_wire([&] {
    if (!slot.adopted) {
      wait_counts(ubatch, slot);
    }
    move_rows_out(ubatch, slot);
    if (!slot.adopted) {
      complete_plan(*slot.plan);
    }
  });
  const auto& plan = *slot.plan;
  const auto sent = sum_of(plan.packed_count) - plan.packed_count[index(shape_.ep_rank)];
  const auto metadata_bytes =
      static_cast<std::int64_t>(plan.metadata_width() * sizeof(std::int32_t));
  const auto received = plan.num_arrivals() - plan.arrived_count[index(shape_.ep_rank)];
  meter_.add({.dispatch_wire_bytes = sent * (row_bytes_ + metadata_bytes),
              .dispatch_received_bytes = received * (row_bytes_ + metadata_bytes),
              .dispatch_logical_bytes = plan.num_choices * row_bytes_});
  slot.stage = Stage::dispatched;
}

SplitRows MpiExchange::arrived_rows(const Ubatch& slot) const {
  const auto& plan = *slot.plan;
  return {.travelled = slot.received.data(),
          .own = slot.packed.data() + plan.packed_begin[index(shape_.ep_rank)] * row_bytes_,
          .own_begin = sum_before(plan.arrived_count, shape_.ep_rank),
          .own_count = plan.arrived_count[index(shape_.ep_rank)],
          .row_bytes = row_bytes_};
}

SplitRows MpiExchange::returned_rows(const Ubatch& slot) const {
  const auto& plan = *slot.plan;
  return {.travelled = slot.returned.data(),
          .own = slot.go_back.data() + sum_before(plan.go_back_count, shape_.ep_rank) * row_bytes_,
          .own_begin = sum_before(plan.return_count, shape_.ep_rank),
          .own_count = plan.return_count[index(shape_.ep_rank)],
          .row_bytes = row_bytes_};
}

ExpertRows MpiExchange::arrange(int ubatch) {
  auto& slot = enter(ubatch, Stage::dispatched, "arrange");
  arrange_choices(*slot.plan, slot.arrangement);
  const auto& offsets = slot.arrangement.offsets;
  const auto num_rows = static_cast<std::int64_t>(slot.arrangement.arrival.size());
  slot.expert_rows.reserve(num_rows);
  copy_rows(arrived_rows(slot), slot.arrangement.arrival, slot.expert_rows.data());
  std::copy(offsets.begin(), offsets.end(), slot.offsets.mutable_data_ptr<std::int32_t>());
  slot.stage = Stage::arranged;
  return {.rows = slot.expert_rows.view(num_rows), .offsets = slot.offsets};
}

void MpiExchange::reduce(int ubatch, const at::Tensor& expert_rows) {
  auto& slot = enter(ubatch, Stage::arranged, "reduce");
  const auto num_rows = static_cast<std::int64_t>(slot.arrangement.arrival.size());
  check_tensor(expert_rows, {num_rows, shape_.hidden}, shape_.dtype, at::kCPU, "expert_rows");
  slot.go_back.reserve(slot.plan->num_go_back());
  if (shape_.returns_choices()) {
    copy_rows(static_cast<const std::byte*>(expert_rows.const_data_ptr()),
              slot.arrangement.choice_row,
              row_bytes_,
              slot.go_back.data());
  } else {
    sum_choices(shape_.dtype,
                shape_.hidden,
                slot.arrangement,
                expert_rows.const_data_ptr(),
                slot.go_back.data());
  }
  slot.stage = Stage::reduced;
}

void MpiExchange::combine(int ubatch) {
  auto& slot = enter(ubatch, Stage::reduced, "combine");
  on_wire([&] { move_parts_back(ubatch, slot); });
  const auto& plan = *slot.plan;
  const auto sent = plan.num_go_back() - plan.go_back_count[index(shape_.ep_rank)];
  const auto received = sum_of(plan.return_count) - plan.return_count[index(shape_.ep_rank)];
  meter_.add({.combine_wire_bytes = sent * row_bytes_,
              .combine_received_bytes = received * row_bytes_,
              .combine_logical_bytes = plan.num_choices * row_bytes_});
  slot.stage = Stage::combined;
}

at::Tensor MpiExchange::finish(int ubatch) {
  auto& slot = enter(ubatch, Stage::combined, "finish");
  const auto& plan = *slot.plan;
  slot.output.reserve(plan.num_tokens);
  if (shape_.returns_choices()) {
    sum_weighted_parts(shape_.dtype,
                       shape_.hidden,
                       plan.part_begin,
                       plan.parts,
                       plan.part_weights,
                       returned_rows(slot),
                       slot.output.data());
  } else {
    sum_parts(shape_.dtype,
              shape_.hidden,
              plan.part_begin,
              plan.parts,
              returned_rows(slot),
              slot.output.data());
  }
  slot.stage = Stage::idle;
  return slot.output.view(plan.num_tokens);
}

std::shared_ptr<ExchangePlan> MpiExchange::plan(int ubatch) {
  DOVETAIL_CHECK(ubatch >= 0 && ubatch < shape_.num_ubatches, where(ubatch, "plan"));
  const auto& plan = state_->ubatches[index(ubatch)].plan;
  DOVETAIL_CHECK(plan != nullptr, where(ubatch, "plan") + ": nothing was prepared");
  return plan;
}

void MpiExchange::adopt(int ubatch, std::shared_ptr<ExchangePlan> plan) {
  auto& slot = enter(ubatch, Stage::idle, "adopt");
  auto ours = std::dynamic_pointer_cast<RoutingPlan>(std::move(plan));
  DOVETAIL_CHECK(ours != nullptr && ours->selection == selection_ && same_grid(ours->shape, shape_),
                 where(ubatch, "adopt") + ": the plan was made by another kind of exchange");
  DOVETAIL_CHECK(ours->complete,
                 where(ubatch, "adopt") + ": the plan is not complete: its dispatch has not run");
  const auto rank = index(shape_.ep_rank);
  slot.packed.reserve(static_cast<std::int64_t>(ours->packed_tokens.size()));
  slot.received.reserve(ours->num_arrivals() - ours->arrived_count[rank]);
  slot.go_back.reserve(ours->num_go_back());
  slot.returned.reserve(sum_of(ours->return_count) - ours->return_count[rank]);
  slot.plan = std::move(ours);
  slot.adopted = true;
  slot.stage = Stage::prepared;
}

void MpiExchange::prepare_again(int ubatch,
                                const at::Tensor& hidden,
                                std::shared_ptr<ExchangePlan> plan) {
  adopt(ubatch, std::move(plan));
  pack(state_->ubatches[index(ubatch)], hidden);
}

}  // namespace dovetail
