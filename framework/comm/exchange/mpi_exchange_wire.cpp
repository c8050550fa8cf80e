// The wire calls of MpiExchange: what is posted, to whom, and waited for.
#include <algorithm>
#include <array>

#include "framework/base/clock.hpp"
#include "framework/comm/exchange/mpi_exchange_state.hpp"

namespace dovetail {
namespace {

// What a message holds, for messages to people.
constexpr std::array<const char*, kNumMessageKinds> kContentNames = {
    "metadata", "rows", "partial sums"};
constexpr const char* kChoiceRowsName = "expert rows";

}  // namespace

MessageKind MpiExchange::message_kind(int ubatch, int group, int kind) const {
  return {.content = kind == kParts && shape_.returns_choices() ? kChoiceRowsName
                                                                : kContentNames.at(index(kind)),
          .comm = exchange_comm_,
          .tag = (ubatch * kMaxGroups + group) * kNumMessageKinds + kind,
          .type = kind == kMetadata ? state_->metadata_type.raw() : state_->row_type.raw()};
}

void MpiExchange::post_counts(int ubatch, Ubatch& slot) {
  const MessageKind kind{
      .content = "counts", .comm = counts_comm_, .tag = ubatch, .type = MPI_INT64_T};
  const auto& plan = *slot.plan;
  const auto groups = static_cast<std::int64_t>(plan.num_groups);
  slot.counts_out = plan.packed_count;
  slot.counts_in.assign(slot.counts_out.size(), 0);
  std::copy_n(slot.counts_out.begin() + shape_.ep_rank * groups,
              groups,
              slot.counts_in.begin() + shape_.ep_rank * groups);
  for (int step = 1; step < shape_.ep_size; ++step) {
    const int source = (shape_.ep_rank + shape_.ep_size - step) % shape_.ep_size;
    slot.counts.receive(kind, source, &slot.counts_in[plan.block(source, 0)], groups);
  }
  for (int step = 1; step < shape_.ep_size; ++step) {
    const int target = (shape_.ep_rank + step) % shape_.ep_size;
    slot.counts.send(kind, target, &slot.counts_out[plan.block(target, 0)], groups);
  }
}

void MpiExchange::wait_counts(int ubatch, Ubatch& slot) {
  const std::int64_t start = now_ns();
  slot.counts.wait(policy_, where(ubatch, 0, Call::dispatch));
  const auto waited = now_ns() - start;
  const auto counts_bytes = static_cast<std::int64_t>(sizeof(std::int64_t)) * (shape_.ep_size - 1) *
                            slot.plan->num_groups;
  meter_.add({.dispatch_wire_bytes = counts_bytes,
              .dispatch_received_bytes = counts_bytes,
              .counts_wait_ns = waited});
  slot.plan->arrived_count = slot.counts_in;
}

/// Of all groups; also makes room for what is received.
void MpiExchange::move_metadata_out(int ubatch, Ubatch& slot) {
  auto& plan = *slot.plan;
  const int rank = shape_.ep_rank;
  const auto width = plan.metadata_width();
  auto& metadata = slot.adopted ? slot.spare_metadata : plan.arrived_metadata;
  metadata.resize(static_cast<std::size_t>(plan.num_arrivals()) * width);
  const auto own_count = rows_of_rank(plan, plan.arrived_count, rank);
  slot.received.reserve(plan.num_arrivals() - own_count);

  const auto kind = message_kind(ubatch, 0, kMetadata);
  for (int step = 1; step < shape_.ep_size; ++step) {
    const int source = (rank + shape_.ep_size - step) % shape_.ep_size;
    const auto begin = rows_before(plan, plan.arrived_count, source);
    state_->wire.receive(kind,
                         source,
                         metadata.data() + static_cast<std::size_t>(begin) * width,
                         rows_of_rank(plan, plan.arrived_count, source));
  }
  const auto packed = [&](int target) {
    const auto begin = plan.packed_begin[plan.block(target, 0)];
    return plan.packed_metadata.data() + static_cast<std::size_t>(begin) * width;
  };
  for (int step = 1; step < shape_.ep_size; ++step) {
    const int target = (rank + step) % shape_.ep_size;
    state_->wire.send(kind, target, packed(target), rows_of_rank(plan, plan.packed_count, target));
  }
  const auto own_begin = rows_before(plan, plan.arrived_count, rank);
  std::copy_n(packed(rank),
              own_count * static_cast<std::int64_t>(width),
              metadata.begin() + own_begin * static_cast<std::int64_t>(width));
}

void MpiExchange::move_rows_out(int ubatch, int group, Ubatch& slot) {
  if (group == 0) {
    move_metadata_out(ubatch, slot);
  }
  const auto& plan = *slot.plan;
  const int rank = shape_.ep_rank;
  const auto own_count = rows_of_rank(plan, plan.arrived_count, rank);
  const auto kind = message_kind(ubatch, group, kRows);
  for (int step = 1; step < shape_.ep_size; ++step) {
    const int source = (rank + shape_.ep_size - step) % shape_.ep_size;
    const auto block = plan.block(source, group);
    const auto begin = sum_before(plan.arrived_count, block) - (source > rank ? own_count : 0);
    state_->wire.receive(
        kind, source, slot.received.data() + begin * row_bytes_, plan.arrived_count[block]);
  }
  for (int step = 1; step < shape_.ep_size; ++step) {
    const int target = (rank + step) % shape_.ep_size;
    const auto block = plan.block(target, group);
    state_->wire.send(kind,
                      target,
                      slot.packed.data() + plan.packed_begin[block] * row_bytes_,
                      plan.packed_count[block]);
  }
  state_->wire.wait(policy_, where(ubatch, group, Call::dispatch));
}

void MpiExchange::move_parts_back(int ubatch, int group, Ubatch& slot) {
  const auto& plan = *slot.plan;
  const int rank = shape_.ep_rank;
  const auto own_count = rows_of_rank(plan, plan.return_count, rank);
  if (group == 0) {
    slot.returned.reserve(sum_of(plan.return_count) - own_count);
  }
  const auto kind = message_kind(ubatch, group, kParts);
  for (int step = 1; step < shape_.ep_size; ++step) {
    const int source = (rank + shape_.ep_size - step) % shape_.ep_size;
    const auto block = plan.block(source, group);
    const auto begin = sum_before(plan.return_count, block) - (source > rank ? own_count : 0);
    state_->wire.receive(
        kind, source, slot.returned.data() + begin * row_bytes_, plan.return_count[block]);
  }
  for (int step = 1; step < shape_.ep_size; ++step) {
    const int target = (rank + step) % shape_.ep_size;
    const auto block = plan.block(target, group);
    const auto begin = sum_before(plan.go_back_count, block);
    state_->wire.send(
        kind, target, slot.go_back.data() + begin * row_bytes_, plan.go_back_count[block]);
  }
  state_->wire.wait(policy_, where(ubatch, group, Call::combine));
}

}  // namespace dovetail
