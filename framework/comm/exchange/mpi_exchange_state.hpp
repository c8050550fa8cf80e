// What an MpiExchange holds per ubatch; private to mpi_exchange*.cpp.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include <ATen/ops/zeros.h>

#include "framework/comm/exchange/arrangement.hpp"
#include "framework/comm/exchange/mpi_exchange.hpp"
#include "framework/comm/exchange/row_buffer.hpp"

namespace dovetail {

/// Kinds of messages on the exchange communicator; tag = ubatch * kNumMessageKinds + kind.
enum MessageContent { kMetadata, kRows, kParts, kNumMessageKinds };

inline std::size_t index(int i) {
  return static_cast<std::size_t>(i);
}

inline std::int64_t sum_of(const std::vector<std::int64_t>& counts) {
  return sum_before(counts, static_cast<int>(counts.size()));
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

  Stage stage = Stage::idle;
  bool adopted = false;  ///< the plan came complete: any call may follow
  std::shared_ptr<RoutingPlan> plan;
  Arrangement arrangement;

  std::vector<std::int64_t> counts_out;
  std::vector<std::int64_t> counts_in;
  PeerMessages counts;

  std::vector<std::int32_t> spare_metadata;  ///< what arrives again under an adopted plan
  RowBuffer packed;                          ///< to send, own rows included
  RowBuffer received;                        ///< of the other ranks
  RowBuffer expert_rows;
  RowBuffer go_back;   ///< to the owners of tokens, own rows included
  RowBuffer returned;  ///< of own tokens, from the other ranks
  RowBuffer output;
  at::Tensor offsets;  ///< [experts_per_rank] int32
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
