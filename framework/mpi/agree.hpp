// Carries the agreement of a step over the ranks: one reduction of one small message.
#pragma once

#include "framework/mpi/comm.hpp"
#include "framework/mpi/wait.hpp"
#include "framework/plan/agreement.hpp"

namespace dovetail {

/// The messages of all ranks, reduced by dovetail::reduce; equal on all ranks. Collective over
/// `comm`, also for idle ranks; one thread at a time. Throws TimeoutError that names the agreement
/// where a rank does not come, and what policy.on_poll throws.
AgreementMessage agree(const MpiComm& comm,
                       const AgreementMessage& local,
                       const WaitPolicy& policy);

}  // namespace dovetail
