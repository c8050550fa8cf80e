// What every stage of a run on one rank refers to, in order of creation. Views only: main owns the
// objects, and they outlive all stages.
#pragma once

#include "framework/config/experiment.hpp"
#include "framework/mpi/failure.hpp"
#include "framework/mpi/groups.hpp"
#include "framework/mpi/session.hpp"
#include "framework/mpi/signals.hpp"
#include "framework/mpi/wait.hpp"
#include "framework/plan/grid.hpp"

namespace dovetail {

struct RankContext {
  const MpiSession& session;
  const SignalWatch& signals;
  const Experiment& experiment;
  const RankGrid& grid;
  const RankGroups& groups;
  FailureChannel& failures;
  WaitPolicy wait;  ///< bound of every wait; polls for signals and for failed peers

  Rank rank() const { return session.rank(); }

  EpRank ep_rank() const { return grid.ep_rank(session.rank()); }

  DpRank dp_rank() const { return grid.dp_rank(session.rank()); }

  bool is_first_rank() const { return session.rank().value == 0; }
};

}  // namespace dovetail
