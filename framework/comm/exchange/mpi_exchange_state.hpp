// What an MpiExchange holds per ubatch; private to mpi_exchange*.cpp.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include <ATen/ops/zeros.h>

#include "framework/comm/exchange/arrangement.hpp"
#include "framework/comm/exchange/mpi_exchange.hpp"
#include "framework/comm/exchange/row_buffer.hpp"

namespace dovetail {

/// Kinds of messages on the exchange communicator; tag = (ubatch * kMaxGroups + group) *
/// kNumMessageKinds + kind.
enum MessageContent { kMetadata, kRows, kParts, kNumMessageKinds };

inline std::size_t index(int i) {
  return static_cast<std::size_t>(i);
}

/// Rows of a rank, or before it, over all groups.
inline std::int64_t rows_of_rank(const RoutingPlan& plan,
                                 const std::vector<std::int64_t>& counts,
                                 int rank) {
  return sum_before(counts, plan.block(rank + 1, 0)) - sum_before(counts, plan.block(rank, 0));
}

inline std::int64_t rows_before(const RoutingPlan& plan,
                                const std::vector<std::int64_t>& counts,
                                int rank) {
  return sum_before(counts, plan.block(rank, 0));
}

inline std::int64_t sum_of(const std::vector<std::int64_t>& counts) {
  return sum_before(counts, counts.size());
}

struct MpiExchange::Ubatch {
  explicit Ubatch(const ExchangeShape& shape)
      : packed(shape.hidden, shape.dtype),
        received(shape.hidden, shape.dtype),
        expert_rows(shape.hidden, shape.dtype),
        go_back(shape.hidden, shape.dtype),
        returned(shape.hidden, shape.dtype),
        output(shape.hidden, shape.dtype),
        offsets(at::zeros({shape.experts_per_rank()}, at::kInt)) {}

  /// How many groups each call has been made for since prepare. The lanes count side by side.
  struct Progress {
    std::atomic<int> dispatched{0};
    std::atomic<int> arranged{0};
    std::atomic<int> reduced{0};
    std::atomic<int> combined{0};

    void restart() {
      for (auto* calls : {&dispatched, &arranged, &reduced, &combined}) {
        calls->store(0);
      }
    }
  };

  bool prepared = false;
  Progress progress;
  bool adopted = false;  ///< the plan came complete: any call may follow
  std::shared_ptr<RoutingPlan> plan;
  RoutingPlan planned_again;  ///< by prepare_again, which uses another one
  Arrangement arrangement;

  std::vector<std::int64_t> counts_out;
  std::vector<std::int64_t> counts_in;
  PeerMessages counts;

  std::vector<std::int32_t> spare_metadata;  ///< what arrives again under an adopted plan
  RowBuffer packed;                          ///< to send, own rows included
  RowBuffer received;                        ///< of the other ranks
  RowBuffer expert_rows;
  std::vector<at::Tensor> made_rows;  ///< by group: what reduce got, until the last group's
  RowBuffer go_back;                  ///< to the owners of tokens, own rows included
  RowBuffer returned;                 ///< of own tokens, from the other ranks
  RowBuffer output;
  at::Tensor offsets;  ///< [experts_per_rank] int32, of each group its own ends
};

struct MpiExchange::State {
  State(const ExchangeShape& shape, std::int64_t row_bytes)
      : row_type(row_bytes), metadata_type(shape.top_k * std::int64_t{2 * sizeof(std::int32_t)}) {
    for (int u = 0; u < shape.num_ubatches; ++u) {
      ubatches.emplace_back(shape);
    }
  }

  RowDatatype row_type;
  RowDatatype metadata_type;
  std::deque<Ubatch> ubatches;  // of immovable size: addresses are with MPI
  PeerMessages wire;            // of the dispatch or combine in progress
};

}  // namespace dovetail
