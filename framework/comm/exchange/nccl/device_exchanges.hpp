// The exchanges between GPUs by name.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "framework/comm/exchange/exchange.hpp"
#include "framework/comm/nccl/nccl_comm.hpp"
#include "framework/mpi/comm.hpp"
#include "framework/mpi/wait.hpp"

namespace dovetail {

/// What a device exchange needs beside its shape. Communicators are over the ep group, of this
/// exchange alone, and outlive it.
struct DeviceExchangeSetting {
  NcclComm* comm = nullptr;              ///< may be null for an ep group of one
  const MpiComm* counts_comm = nullptr;  ///< ragged only; may be null for an ep group of one
  WaitPolicy wait;
  double padded_capacity =
      1.0;             ///< padded: share of the largest ubatch's tokens that a block holds
  int world_rank = 0;  ///< for messages
};

/// Local. On the current device; allocates with the first begin_step. Throws InputError for a kind
/// that is not built for GPUs, ContractError for a shape or setting that does not fit.
std::unique_ptr<Exchange> make_device_exchange(const std::string& kind,
                                               const ExchangeShape& shape,
                                               const DeviceExchangeSetting& setting);

/// Bytes of one rank's buffers on the device, over all ubatches, where none has more than
/// `max_tokens` tokens on any rank. Local, pure. Throws as make_device_exchange.
std::int64_t device_exchange_buffer_bytes(const std::string& kind,
                                          const ExchangeShape& shape,
                                          std::int64_t max_tokens,
                                          double padded_capacity);

}  // namespace dovetail
