// Memory of an MpiExchange: what it holds now, where, and the most that it can come to.
#include <algorithm>

#include "framework/comm/exchange/mpi_exchange_state.hpp"

namespace dovetail {

std::int64_t MpiExchange::bytes() const {
  std::int64_t bytes = 0;
  for (const auto& slot : state_->ubatches) {
    for (const auto* rows : {&slot.packed,
                             &slot.received,
                             &slot.expert_rows,
                             &slot.go_back,
                             &slot.returned,
                             &slot.output}) {
      bytes += rows->bytes();
    }
    if (slot.plan) {
      bytes += static_cast<std::int64_t>(
          (slot.plan->packed_metadata.size() + slot.plan->arrived_metadata.size()) *
          sizeof(std::int32_t));
    }
  }
  return bytes;
}

SplitRows MpiExchange::arrived_rows(const Ubatch& slot) const {
  const auto& plan = *slot.plan;
  const auto first = plan.packed_begin[plan.block(shape_.ep_rank, 0)];
  return {.travelled = slot.received.data(),
          .own = slot.packed.data() + first * row_bytes_,
          .own_begin = rows_before(plan, plan.arrived_count, shape_.ep_rank),
          .own_count = rows_of_rank(plan, plan.arrived_count, shape_.ep_rank),
          .row_bytes = row_bytes_};
}

SplitRows MpiExchange::returned_rows(const Ubatch& slot) const {
  const auto& plan = *slot.plan;
  const auto first = rows_before(plan, plan.go_back_count, shape_.ep_rank);
  return {.travelled = slot.returned.data(),
          .own = slot.go_back.data() + first * row_bytes_,
          .own_begin = rows_before(plan, plan.return_count, shape_.ep_rank),
          .own_count = rows_of_rank(plan, plan.return_count, shape_.ep_rank),
          .row_bytes = row_bytes_};
}

std::vector<at::Tensor> MpiExchange::received_rows(int ubatch,
                                                   Phase phase,
                                                   std::optional<int> group) {
  const auto& slot = state_->ubatches.at(index(ubatch));
  const bool is_dispatch = phase == Phase::dispatch;
  const auto all = (is_dispatch ? slot.received : slot.returned).all();
  if (!group || !slot.plan || slot.plan->num_groups == 1) {
    return {all};
  }
  const auto& plan = *slot.plan;
  const auto& counts = is_dispatch ? plan.arrived_count : plan.return_count;
  std::vector<at::Tensor> rows;
  std::int64_t begin = 0;
  for (int source = 0; source < shape_.ep_size; ++source) {
    for (int each = 0; source != shape_.ep_rank && each < plan.num_groups; ++each) {
      const auto count = counts[plan.block(source, each)];
      if (each == *group) {
        rows.push_back(all.narrow(0, begin, count));
      }
      begin += count;
    }
  }
  return rows;
}

std::int64_t mpi_exchange_bytes(RowSelection selection,
                                const ExchangeShape& shape,
                                std::int64_t max_tokens) {
  const std::int64_t ranks = shape.ep_size;
  const std::int64_t destinations = std::min<std::int64_t>(ranks, shape.top_k);
  const std::int64_t local_choices = std::min(shape.top_k, shape.experts_per_rank());
  const std::int64_t remote_experts = shape.num_experts - shape.experts_per_rank();
  // Per token of the largest ubatch: rows of the buffers above.
  const std::int64_t packed = selection == RowSelection::needed ? destinations : 1;
  const std::int64_t arrivals = ranks;
  const std::int64_t go_back = arrivals * shape.most_returned_rows();
  const std::int64_t returned = shape.returns_choices()
                                    ? std::min<std::int64_t>(shape.top_k, remote_experts)
                                    : std::min(destinations, ranks - 1);
  const std::int64_t rows =
      packed + (arrivals - 1) + arrivals * local_choices + go_back + returned + 1 /* output */;
  const std::int64_t metadata_bytes =
      (packed + arrivals) * 2 * shape.top_k * static_cast<std::int64_t>(sizeof(std::int32_t));
  return shape.num_ubatches * max_tokens * (rows * shape.row_bytes() + metadata_bytes);
}

}  // namespace dovetail
