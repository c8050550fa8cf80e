// What an exchange is made with, beside its shape.
#pragma once

#include <map>

#include "framework/mpi/comm.hpp"
#include "framework/mpi/wait.hpp"

namespace dovetail {

class NcclComm;

/// Communicators are over the ep group, of this exchange alone, and outlive it. What a back end
/// does not use may be null.
struct ExchangeSetting {
  const MpiComm* exchange_comm = nullptr;  ///< host ranks: rows
  const MpiComm* counts_comm = nullptr;    ///< counts on the host, also of GPU ranks
  std::map<int, NcclComm*> nccl_comms;     ///< GPU ranks, by the SMs that transfers take; may be
                                           ///< empty for an ep group of one
  WaitPolicy wait;                         ///< bound of every wait
  double padded_capacity = 1.0;  ///< blocks of fixed size: the share of the largest ubatch's tokens
                                 ///< that one holds
  int world_rank = 0;            ///< for messages
};

}  // namespace dovetail
