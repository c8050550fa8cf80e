// The table of exchanges. To add one:
//
// 1. Write it: a header and a source file that implement Exchange (exchange.hpp has the contract,
//    mpi_exchange.hpp and nccl/nccl_exchange.hpp are the examples), with the bytes of its buffers.
// 2. Give it a row below, and name its source in framework/comm/CMakeLists.txt.
// 3. Test what is particular to it in tests/mpi/exchanges/NAME_test.cpp (tests/gpu/exchanges for
//    GPU ranks), which is built and run without being listed. What all exchanges must do is tested
//    already: the conformance suites and the matrices of whole runs go through this table.
//
// All else follows from the row: `dovetail info`, what experiments may ask for, `auto`, how much of
// a step is captured, memory in `dovetail check`.
#include "framework/comm/exchange/exchange_table.hpp"

#include <algorithm>

#include "framework/comm/exchange/expert_cut.hpp"
#include "framework/comm/exchange/mpi_exchange.hpp"
#include "framework/comm/exchange/nccl/block_layout.hpp"
#include "framework/comm/exchange/nccl/nccl_exchange.hpp"

namespace dovetail {
namespace {

ExchangeSide over_mpi(RowSelection selection) {
  return {.make =
              [selection](const ExchangeShape& shape, const ExchangeSetting& setting) {
                return std::make_unique<MpiExchange>(selection, shape, setting);
              },
          .buffer_bytes =
              [selection](const ExchangeShape& shape, std::int64_t max_tokens, double) {
                return mpi_exchange_bytes(selection, shape, max_tokens);
              },
          .output_rows =
              [](const ExchangeShape& shape,
                 std::int64_t max_tokens,
                 double,
                 int num_groups,
                 int last_group) {
                const ExpertCut cut = {shape.experts_per_rank(), num_groups};
                return shape.ep_size * max_tokens *
                       std::min(shape.top_k, cut.begin(last_group + 1));
              },
          .max_groups = kMaxGroups};
}

ExchangeSide over_nccl(BlockKind kind) {
  return {.make =
              [kind](const ExchangeShape& shape, const ExchangeSetting& setting) {
                return make_nccl_exchange(kind, shape, setting);
              },
          .buffer_bytes =
              [kind](const ExchangeShape& shape, std::int64_t max_tokens, double padded_capacity) {
                return shape.num_ubatches * exchange_sizes(kind,
                                                           shape.ep_size,
                                                           shape.num_experts,
                                                           shape.top_k,
                                                           shape.row_bytes(),
                                                           max_tokens,
                                                           padded_capacity)
                                                .total_bytes;
              },
          .output_rows =
              [kind](const ExchangeShape& shape,
                     std::int64_t max_tokens,
                     double padded_capacity,
                     int num_groups,
                     int last_group) {
                const auto sizes = exchange_sizes(kind,
                                                  shape.ep_size,
                                                  shape.num_experts,
                                                  shape.top_k,
                                                  shape.row_bytes(),
                                                  max_tokens,
                                                  padded_capacity);
                const ExpertCut cut = {shape.experts_per_rank(), num_groups};
                std::int64_t rows = 0;
                for (int group = 0; group <= last_group; ++group) {
                  rows += sizes.expert_rows_of(cut.begin(group + 1) - cut.begin(group));
                }
                return rows;
              },
          .max_top_k = kMaxDeviceTopK,
          .max_groups = kind == BlockKind::symmetric ? kMaxGroups : 1};
}

std::vector<ExchangeRow> make_table() {
  return {
      {.name = "gather",
       .summary = "all routed rows to every rank; the oracle",
       .on_host = over_mpi(RowSelection::all),
       .on_gpu = over_nccl(BlockKind::gather),
       .max_graph = GraphMode::full,
       .auto_on_gpu = "on GPUs gather never waits for counts on the host, so that whole steps can "
                      "be captured, and with few ranks and several experts a token most rows go to "
                      "most ranks anyway"},
      {.name = "ragged",
       .summary = "exact counts, one row per (token, destination rank)",
       .on_host = over_mpi(RowSelection::needed),
       .on_gpu = over_nccl(BlockKind::ragged),
       .max_graph = GraphMode::piecewise,  // counts come to the host
       .auto_on_host = "on host ranks ragged sends the fewest rows, gather is only its oracle"},
      {.name = "padded",
       .summary = "blocks of fixed capacity per peer",
       .on_gpu = over_nccl(BlockKind::padded),
       .max_graph = GraphMode::full},
      {.name = "symmetric",
       .summary = "own kernels store exact rows into the memory of the peers over NVLink",
       .on_gpu = over_nccl(BlockKind::symmetric),
       .max_graph = GraphMode::full,
       .shares_memory = true,
       .auto_on_gpu = "GPUs that reach each other's memory need no counts on the host and no rows "
                      "that nobody wants"},
      {.name = "copy_engine",
       .summary = "copy engines write blocks of fixed capacity into the memory of the peers",
       .on_gpu = over_nccl(BlockKind::copy_engine),
       .max_graph = GraphMode::full,
       .shares_memory = true},
  };
}

}  // namespace

const std::vector<ExchangeRow>& exchange_table() {
  static const std::vector<ExchangeRow> table = make_table();
  return table;
}

const ExchangeRow* find_exchange(std::string_view name) {
  const auto& table = exchange_table();
  const auto row = std::find_if(
      table.begin(), table.end(), [&](const ExchangeRow& one) { return one.name == name; });
  return row == table.end() ? nullptr : &*row;
}

}  // namespace dovetail
