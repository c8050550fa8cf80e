// How every command that uses MPI starts its ranks: guarded against worlds of one rank, against
// ranks that do not come and against signals that nobody handles.
#pragma once

#include <functional>
#include <optional>

#include "framework/mpi/launcher.hpp"
#include "framework/mpi/session.hpp"
#include "framework/mpi/signals.hpp"
#include "framework/mpi/start_limit.hpp"

namespace dovetail {

/// A process of a world that is up. Views.
struct StartedRank {
  const MpiSession& session;
  const SignalWatch& signals;
  StartLimit& start;  ///< the caller says when it is done
};

/// What can be refused before MPI, by throwing, from what the launcher says.
using RefuseEarly = std::function<void(const std::optional<StartedProcesses>& started)>;
using RankWork = std::function<int(const StartedRank& rank)>;

/// Starts MPI, calls `work` on each rank and returns what it returns, behind the end of MPI.
/// kExitBadInput, with a line by the first process, where the launcher's processes are not this
/// world's ranks. Once a process, in its main thread, before any other thread. Throws what the
/// functions throw.
int start_ranks(const RankWork& work, const RefuseEarly& refuse_early = {});

}  // namespace dovetail
