// This rank among the others of a run: who it is, over which communicators it talks, how long it
// waits.
#pragma once

#include "framework/mpi/groups.hpp"
#include "framework/mpi/session.hpp"
#include "framework/mpi/wait.hpp"
#include "framework/plan/grid.hpp"

namespace dovetail {

/// Views: main owns the objects, and they outlive all that gets them.
struct Ranks {
  const MpiSession& session;
  const RankGrid& grid;
  const RankGroups& groups;
  WaitPolicy wait;  ///< bound of every wait; polls for signals and for failed peers

  Rank rank() const { return session.rank(); }

  EpRank ep_rank() const { return grid.ep_rank(session.rank()); }

  DpRank dp_rank() const { return grid.dp_rank(session.rank()); }

  bool is_first() const { return session.rank().value == 0; }
};

}  // namespace dovetail
