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

static_assert(kMaxUbatches * kMaxGroups * kNumMessageKinds <= 32767,
              "MPI guarantees no larger tags");

constexpr std::array<const char*, 6> kCallNames = {
    "prepare", "dispatch", "arrange", "reduce", "combine", "finish"};

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

std::string MpiExchange::where(int ubatch, int group, Call call) const {
  const auto& plan = state_->ubatches[index(ubatch)].plan;
  const bool is_cut = plan && plan->num_groups > 1;
  return where(ubatch,
               (kCallNames.at(static_cast<std::size_t>(call)) +
                (is_cut ? " of group " + std::to_string(group) : std::string()))
                   .c_str());
}

MpiExchange::Ubatch& MpiExchange::slot_of(int ubatch, const char* call) const {
  DOVETAIL_CHECK(ubatch >= 0 && ubatch < shape_.num_ubatches,
                 where(ubatch, call) + ": there are " + counted(shape_.num_ubatches, "ubatch"));
  if (failed_) {
    throw RunError(where(ubatch, call) + ": the exchange failed earlier");
  }
  return state_->ubatches[index(ubatch)];
}

/// A call of a prepared ubatch. Under an adopted plan one side of the overlap is left out: any call
/// may follow, but reduce its arrange.
MpiExchange::Ubatch& MpiExchange::enter(int ubatch, int group, Call call) {
  auto& slot = slot_of(ubatch, kCallNames.at(static_cast<std::size_t>(call)));
  auto& done = slot.progress;
  const auto require = [&](bool holds, const char* what) {
    DOVETAIL_CHECK(holds, where(ubatch, group, call) + " must follow " + what);
  };
  require(slot.prepared, "prepare");
  DOVETAIL_CHECK(group >= 0 && group < slot.plan->num_groups,
                 where(ubatch, group, call) + ": group " + std::to_string(group) + " of " +
                     std::to_string(slot.plan->num_groups));
  switch (call) {
    case Call::prepare:
      break;
    case Call::dispatch:
      require(slot.adopted || done.dispatched == group, "the dispatch of the group before");
      break;
    case Call::arrange:
      require(slot.adopted || done.dispatched > group, "dispatch");
      require(done.arranged == group && done.reduced == group, "the reduce of the group before");
      break;
    case Call::reduce:
      require(done.arranged == group + 1 && done.reduced == group, "arrange");
      break;
    case Call::combine:
      require(slot.adopted || done.reduced > group, "reduce");
      require(slot.adopted || done.combined == group, "the combine of the group before");
      break;
    case Call::finish:
      require(slot.adopted || done.combined == slot.plan->num_groups, "combine");
      break;
  }
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
  auto& slot = slot_of(ubatch, "prepare");
  // It may drop what came before, but not counts that are on their way.
  DOVETAIL_CHECK(slot.counts.empty(),
                 where(ubatch, "prepare") + ": no dispatch has followed the last");
  check_tokens(tokens, shape_, at::kCPU);
  DOVETAIL_CHECK(tokens.num_groups <= kMaxGroups, counted(tokens.num_groups, "group"));

  // Not prepared until all is well: a bad batch must not leave a half-made plan.
  slot.prepared = false;
  slot.adopted = false;
  slot.made_rows.clear();
  if (!slot.plan || slot.plan.use_count() > 1) {
    slot.plan = std::make_shared<RoutingPlan>();
  }
  plan_sends(tokens, *slot.plan);
  on_wire([&] { post_counts(ubatch, slot); });
  pack(slot, tokens.hidden);
  slot.progress.restart();
  slot.prepared = true;
}

void MpiExchange::plan_sends(const RoutedTokens& tokens, RoutingPlan& plan) const {
  const auto num_choices =
      static_cast<std::size_t>(check_tokens(tokens, shape_, at::kCPU) * shape_.top_k);
  dovetail::plan_sends(shape_,
                       selection_,
                       {tokens.expert_ids.const_data_ptr<std::int64_t>(), num_choices},
                       {tokens.weights.const_data_ptr<float>(), num_choices},
                       tokens.num_groups,
                       plan);
}

void MpiExchange::dispatch(int ubatch, int group) {
  auto& slot = enter(ubatch, group, Call::dispatch);
  on_wire([&] {
    if (!slot.adopted && group == 0) {
      wait_counts(ubatch, slot);
    }
    move_rows_out(ubatch, group, slot);
    if (!slot.adopted && group == 0) {
      complete_plan(*slot.plan);
    }
  });
  const auto& plan = *slot.plan;
  const auto metadata_bytes =
      static_cast<std::int64_t>(plan.metadata_width() * sizeof(std::int32_t));
  Traffic traffic;
  for (int peer = 0; peer < shape_.ep_size; ++peer) {
    if (peer == shape_.ep_rank) {
      continue;
    }
    traffic.dispatch_wire_bytes += plan.packed_count[plan.block(peer, group)] * row_bytes_;
    traffic.dispatch_received_bytes += plan.arrived_count[plan.block(peer, group)] * row_bytes_;
    if (group == 0) {
      traffic.dispatch_wire_bytes += rows_of_rank(plan, plan.packed_count, peer) * metadata_bytes;
      traffic.dispatch_received_bytes +=
          rows_of_rank(plan, plan.arrived_count, peer) * metadata_bytes;
    }
  }
  traffic.dispatch_logical_bytes = group == 0 ? plan.num_choices * row_bytes_ : 0;
  meter_.add(traffic);
  slot.progress.dispatched = group + 1;
}

ExpertRows MpiExchange::arrange(int ubatch, int group) {
  auto& slot = enter(ubatch, group, Call::arrange);
  const auto& arrangement = slot.arrangement;
  if (group == 0) {
    arrange_choices(*slot.plan, slot.arrangement);
    slot.expert_rows.reserve(std::ssize(arrangement.arrival));
  }
  const auto cut = slot.plan->cut();
  const int first_expert = cut.begin(group);
  const int num_experts = cut.begin(group + 1) - first_expert;
  const auto row_end = [&](int end) -> std::int64_t {
    return end == 0 ? 0 : arrangement.offsets[index(end - 1)];
  };
  const auto begin = row_end(first_expert);
  const auto count = row_end(first_expert + num_experts) - begin;
  copy_rows(arrived_rows(slot),
            std::span(arrangement.arrival)
                .subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)),
            slot.expert_rows.data() + begin * row_bytes_);
  const auto offsets = slot.offsets.narrow(0, first_expert, num_experts);
  for (int expert = 0; expert < num_experts; ++expert) {
    offsets.mutable_data_ptr<std::int32_t>()[expert] =
        static_cast<std::int32_t>(row_end(first_expert + expert + 1) - begin);
  }
  slot.progress.arranged = group + 1;
  return {.rows = slot.expert_rows.view(begin + count).narrow(0, begin, count),
          .offsets = offsets,
          .first_expert = first_expert};
}

void MpiExchange::reduce(int ubatch, int group, const at::Tensor& expert_rows) {
  auto& slot = enter(ubatch, group, Call::reduce);
  const auto& plan = *slot.plan;
  const auto& offsets = slot.arrangement.offsets;
  const auto cut = plan.cut();
  GroupedRows made = {.parts = {}, .row_bytes = row_bytes_};
  const int first_expert = cut.begin(group);
  const auto num_rows = offsets[index(cut.begin(group + 1) - 1)] -
                        (first_expert == 0 ? 0 : offsets[index(first_expert - 1)]);
  check_tensor(expert_rows, {num_rows, shape_.hidden}, shape_.dtype, at::kCPU, "expert_rows");
  slot.made_rows.push_back(expert_rows);
  for (int part = 0; part <= group; ++part) {
    made.parts.push_back(
        {.data = static_cast<const std::byte*>(slot.made_rows[index(part)].const_data_ptr()),
         .end = offsets[index(cut.begin(part + 1) - 1)]});
  }
  if (group == 0) {
    slot.go_back.reserve(plan.num_go_back());
  }
  for (int owner = 0; owner < shape_.ep_size; ++owner) {
    const auto block = plan.block(owner, group);
    const auto first = sum_before(plan.go_back_count, block);
    const auto end = first + plan.go_back_count[block];
    auto* out = slot.go_back.data() + first * row_bytes_;
    if (shape_.returns_choices()) {
      copy_rows(
          made,
          std::span(slot.arrangement.choice_row)
              .subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(end - first)),
          out);
    } else {
      sum_choices(shape_.dtype, shape_.hidden, slot.arrangement, first, end, made, out);
    }
  }
  if (group + 1 == plan.num_groups) {
    slot.made_rows.clear();
  }
  slot.progress.reduced = group + 1;
}

void MpiExchange::combine(int ubatch, int group) {
  auto& slot = enter(ubatch, group, Call::combine);
  on_wire([&] { move_parts_back(ubatch, group, slot); });
  const auto& plan = *slot.plan;
  Traffic traffic;
  for (int peer = 0; peer < shape_.ep_size; ++peer) {
    if (peer != shape_.ep_rank) {
      traffic.combine_wire_bytes += plan.go_back_count[plan.block(peer, group)] * row_bytes_;
      traffic.combine_received_bytes += plan.return_count[plan.block(peer, group)] * row_bytes_;
    }
  }
  traffic.combine_logical_bytes = group == 0 ? plan.num_choices * row_bytes_ : 0;
  meter_.add(traffic);
  slot.progress.combined = group + 1;
}

at::Tensor MpiExchange::finish(int ubatch) {
  auto& slot = enter(ubatch, 0, Call::finish);
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
  slot.prepared = false;
  return slot.output.view(plan.num_tokens);
}

}  // namespace dovetail
