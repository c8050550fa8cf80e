// The exchanges by name: what a configuration may ask for, and the choice of `auto`.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "framework/base/registry.hpp"
#include "framework/base/types.hpp"
#include "framework/comm/exchange/exchange.hpp"
#include "framework/mpi/comm.hpp"
#include "framework/mpi/wait.hpp"

namespace dovetail {

/// Makes an exchange over an ep group. Both communicators are over that group, of this exchange
/// alone, and outlive it.
using ExchangeFactory = std::function<std::unique_ptr<Exchange>(const ExchangeShape& shape,
                                                                const MpiComm& exchange_comm,
                                                                const MpiComm& counts_comm,
                                                                const WaitPolicy& policy)>;

/// All back ends, in order of the design. The factories are those for host ranks: what needs GPUs
/// (nccl/device_exchanges.hpp) or is not built yet refuses (InputError).
const Registry<ExchangeFactory>& exchange_registry();

/// The back end `kind` (not "auto"). Local. Throws InputError for unknown names and for back ends
/// that are not built yet.
std::unique_ptr<Exchange> make_exchange(const std::string& kind,
                                        const ExchangeShape& shape,
                                        const MpiComm& exchange_comm,
                                        const MpiComm& counts_comm,
                                        const WaitPolicy& policy);

struct ExchangeChoice {
  std::string name;
  std::string reason;  ///< one line for people
};

/// Resolves "auto"; any other name must be a built back end for host ranks or, with `on_gpu`, for
/// GPUs (InputError otherwise).
ExchangeChoice choose_exchange(const std::string& requested, bool on_gpu = false);

/// How much of a step with this back end can be captured. `kind` is resolved and built for GPUs
/// (InputError otherwise).
GraphMode max_graph_mode(const std::string& kind);

/// Bytes that the buffers of one host rank can grow to, over all ubatches, in the worst routing:
/// `max_tokens` bounds the tokens of any one ubatch on any rank. Linear in max_tokens. `kind` is a
/// built back end (InputError otherwise).
std::int64_t exchange_buffer_bytes(const ExchangeShape& shape,
                                   std::int64_t max_tokens,
                                   const std::string& kind);

}  // namespace dovetail
