#include "framework/comm/exchange/exchanges.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "framework/comm/exchange/mpi_exchange.hpp"

namespace dovetail {
namespace {

constexpr std::array<std::pair<const char*, const char*>, 3> kNotBuilt = {{
    {"padded", "fixed capacity per peer, full graphs"},
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
  throw InputError("exchange '" + name +
                   "' needs NCCL and is not built yet; built: gather, ragged, and auto");
}

ExchangeFactory not_built(const std::string& name) {
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
  for (const auto& [name, summary] : kNotBuilt) {
    registry.add(name, std::string(summary) + " (needs NCCL, not built yet)", not_built(name));
  }
  return registry;
}

void check_built(const std::string& name) {
  exchange_registry().at(name);
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

ExchangeChoice choose_exchange(const std::string& requested) {
  if (requested == "auto") {
    return {
        .name = "ragged",
        .reason = "auto: on host ranks ragged sends the fewest rows, gather is only its oracle"};
  }
  check_built(requested);
  return {.name = requested, .reason = "as configured"};
}

std::int64_t exchange_buffer_bytes(const ExchangeShape& shape,
                                   std::int64_t max_tokens,
                                   const std::string& kind) {
  check_built(kind);
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
