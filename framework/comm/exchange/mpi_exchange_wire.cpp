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

MessageKind MpiExchange::message_kind(int ubatch, int kind) const {
  return {.content = kind == kParts && shape_.returns_choices() ? kChoiceRowsName
                                                                : kContentNames.at(index(kind)),
          .comm = exchange_comm_,
          .tag = ubatch * kNumMessageKinds + kind,
          .type = kind == kMetadata ? state_->metadata_type.raw() : state_->row_type.raw()};
}

void MpiExchange::post_counts(int ubatch, Ubatch& slot) {
  const MessageKind kind{
      .content = "counts", .comm = counts_comm_, .tag = ubatch, .type = MPI_INT64_T};
  slot.counts_out = slot.plan->packed_count;
  slot.counts_in.assign(index(shape_.ep_size), 0);
  slot.counts_in[index(shape_.ep_rank)] = slot.counts_out[index(shape_.ep_rank)];
  for (int step = 1; step < shape_.ep_size; ++step) {
    const int source = (shape_.ep_rank + shape_.ep_size - step) % shape_.ep_size;
    slot.counts.receive(kind, source, &slot.counts_in[index(source)], 1);
  }
  for (int step = 1; step < shape_.ep_size; ++step) {
    const int target = (shape_.ep_rank + step) % shape_.ep_size;
    slot.counts.send(kind, target, &slot.counts_out[index(target)], 1);
  }
}

void MpiExchange::wait_counts(int ubatch, Ubatch& slot) {
  const std::int64_t start = now_ns();
  slot.counts.wait(policy_, where(ubatch, "dispatch"));
  const auto waited = now_ns() - start;
  const auto counts_bytes = (shape_.ep_size - 1) * static_cast<std::int64_t>(sizeof(std::int64_t));
  meter_.add({.dispatch_wire_bytes = counts_bytes,
              .dispatch_received_bytes = counts_bytes,
              .counts_wait_ns = waited});
  slot.plan->arrived_count = slot.counts_in;
}

void MpiExchange::move_rows_out(int ubatch, Ubatch& slot) {
  auto& plan = *slot.plan;
  const int rank = shape_.ep_rank;
  const auto width = plan.metadata_width();
  auto& metadata = slot.adopted ? slot.spare_metadata : plan.arrived_metadata;
  metadata.resize(static_cast<std::size_t>(plan.num_arrivals()) * width);
  slot.received.reserve(plan.num_arrivals() - plan.arrived_count[index(rank)]);

  const auto rows = arrived_rows(slot);
  const auto metadata_kind = message_kind(ubatch, kMetadata);
  const auto rows_kind = message_kind(ubatch, kRows);
  for (int step = 1; step < shape_.ep_size; ++step) {
    const int source = (rank + shape_.ep_size - step) % shape_.ep_size;
    const auto begin = sum_before(plan.arrived_count, source);
    const auto count = plan.arrived_count[index(source)];
    state_->wire.receive(
        metadata_kind, source, metadata.data() + static_cast<std::size_t>(begin) * width, count);
    const auto gap = source > rank ? rows.own_count : 0;
    state_->wire.receive(
        rows_kind, source, slot.received.data() + (begin - gap) * row_bytes_, count);
  }
  for (int step = 1; step < shape_.ep_size; ++step) {
    const int target = (rank + step) % shape_.ep_size;
    const auto begin = plan.packed_begin[index(target)];
    const auto count = plan.packed_count[index(target)];
    state_->wire.send(metadata_kind,
                      target,
                      plan.packed_metadata.data() + static_cast<std::size_t>(begin) * width,
                      count);
    state_->wire.send(rows_kind, target, slot.packed.data() + begin * row_bytes_, count);
  }
  const auto own = plan.packed_metadata.begin() +
                   plan.packed_begin[index(rank)] * static_cast<std::int64_t>(width);
  std::copy_n(own,
              rows.own_count * static_cast<std::int64_t>(width),
              metadata.begin() + rows.own_begin * static_cast<std::int64_t>(width));
  state_->wire.wait(policy_, where(ubatch, "dispatch"));
}

void MpiExchange::move_parts_back(int ubatch, Ubatch& slot) {
  const auto& plan = *slot.plan;
  const int rank = shape_.ep_rank;
  const auto own_parts = plan.return_count[index(rank)];
  slot.returned.reserve(sum_of(plan.return_count) - own_parts);
  const auto kind = message_kind(ubatch, kParts);
  for (int step = 1; step < shape_.ep_size; ++step) {
    const int source = (rank + shape_.ep_size - step) % shape_.ep_size;
    const auto begin = sum_before(plan.return_count, source) - (source > rank ? own_parts : 0);
    state_->wire.receive(
        kind, source, slot.returned.data() + begin * row_bytes_, plan.return_count[index(source)]);
  }
  for (int step = 1; step < shape_.ep_size; ++step) {
    const int target = (rank + step) % shape_.ep_size;
    const auto begin = sum_before(plan.go_back_count, target);
    state_->wire.send(
        kind, target, slot.go_back.data() + begin * row_bytes_, plan.go_back_count[index(target)]);
  }
  state_->wire.wait(policy_, where(ubatch, "combine"));
}

}  // namespace dovetail
