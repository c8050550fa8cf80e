#include "framework/comm/exchange/exchanges.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "framework/comm/exchange/mpi_exchange.hpp"

namespace dovetail {
namespace {

constexpr std::array<std::pair<const char*, const char*>, 2> kNotBuilt = {{
    {"symmetric", "own kernels over NCCL symmetric windows, full graphs"},
    {"copy_engine", "fixed blocks by copy engines, no SM"},
}};

ExchangeFactory over_mpi(RowSelection selection) {
  return [selection](const ExchangeShape& shape,
                     const MpiComm& exchange_comm,
                     const MpiComm& counts_comm,
                     const WaitPolicy& policy) -> std::unique_ptr<Exchange> {
    return std::make_unique<MpiExchange>(shape, selection, exchange_comm, counts_comm, policy);
  };
}

[[noreturn]] void refuse(const std::string& name) {
  if (name == "padded") {
    throw InputError("exchange 'padded' needs GPUs; on host ranks: gather, ragged, and auto");
  }
  throw InputError("exchange '" + name +
                   "' is not built yet; built: gather, ragged, padded (GPUs only), and auto");
}

ExchangeFactory refused(const std::string& name) {
  return [name](const ExchangeShape&,
                const MpiComm&,
                const MpiComm&,
                const WaitPolicy&) -> std::unique_ptr<Exchange> { refuse(name); };
}

Registry<ExchangeFactory> make_registry() {
  Registry<ExchangeFactory> registry("exchange");
  registry.add("gather",
               "all routed rows to every rank over MPI, partial sums back; the oracle",
               over_mpi(RowSelection::all));
  registry.add("ragged",
               "exact counts over MPI, one row per (token, destination rank)",
               over_mpi(RowSelection::needed));
  registry.add(
      "padded", "blocks of fixed capacity per peer, full graphs (needs GPUs)", refused("padded"));
  for (const auto& [name, summary] : kNotBuilt) {
    registry.add(name, std::string(summary) + " (needs NCCL, not built yet)", refused(name));
  }
  return registry;
}

void check_built(const std::string& name, bool on_gpu) {
  exchange_registry().at(name);
  if (name == "padded" && !on_gpu) {
    refuse(name);
  }
  for (const auto& [other, summary] : kNotBuilt) {
    if (name == other) {
      refuse(name);
    }
  }
}

}  // namespace

const Registry<ExchangeFactory>& exchange_registry() {
  static const Registry<ExchangeFactory> registry = make_registry();
  return registry;
}

std::unique_ptr<Exchange> make_exchange(const std::string& kind,
                                        const ExchangeShape& shape,
                                        const MpiComm& exchange_comm,
                                        const MpiComm& counts_comm,
                                        const WaitPolicy& policy) {
  return exchange_registry().at(kind)(shape, exchange_comm, counts_comm, policy);
}

ExchangeChoice choose_exchange(const std::string& requested, bool on_gpu) {
  if (requested == "auto" && on_gpu) {
    return {.name = "gather",
            .reason =
                "auto: on GPUs gather never waits for counts on the host, so that whole "
                "steps can be captured, and with few ranks and several experts a token most "
                "rows go to most ranks anyway"};
  }
  if (requested == "auto") {
    return {
        .name = "ragged",
        .reason = "auto: on host ranks ragged sends the fewest rows, gather is only its oracle"};
  }
  check_built(requested, on_gpu);
  return {.name = requested, .reason = "as configured"};
}

GraphMode max_graph_mode(const std::string& kind) {
  check_built(kind, /*on_gpu=*/true);
  return kind == "ragged" ? GraphMode::piecewise : GraphMode::full;
}

std::int64_t exchange_buffer_bytes(const ExchangeShape& shape,
                                   std::int64_t max_tokens,
                                   const std::string& kind) {
  check_built(kind, /*on_gpu=*/false);
  const std::int64_t ranks = shape.ep_size;
  const std::int64_t destinations = std::min<std::int64_t>(ranks, shape.top_k);
  const std::int64_t local_choices = std::min(shape.top_k, shape.experts_per_rank());
  // Per token of the largest ubatch; see the buffers of MpiExchange.
  const std::int64_t packed = kind == "ragged" ? destinations : 1;
  const std::int64_t arrivals = ranks;
  const std::int64_t returned = std::min(destinations, ranks - 1);
  const std::int64_t rows =
      packed + (arrivals - 1) + arrivals * local_choices + arrivals + returned + 1 /* output */;
  const std::int64_t row_bytes =
      shape.hidden * static_cast<std::int64_t>(c10::elementSize(shape.dtype));
  const std::int64_t metadata_bytes =
      (packed + arrivals) * 2 * shape.top_k * static_cast<std::int64_t>(sizeof(std::int32_t));
  return shape.num_ubatches * max_tokens * (rows * row_bytes + metadata_bytes);
}

}  // namespace dovetail
