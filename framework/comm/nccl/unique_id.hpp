// The id by which the ranks of an NCCL communicator find each other.
#pragma once

#include <nccl.h>

#include "framework/mpi/comm.hpp"
#include "framework/mpi/wait.hpp"

namespace dovetail {

/// Made by rank 0, equal on all ranks. Collective. Throws RunError on all ranks where rank 0 could
/// not make one, and as broadcast_text.
ncclUniqueId exchange_id(const MpiComm& ranks, const WaitPolicy& wait);

}  // namespace dovetail
