// The communicators of a run, one for each kind of traffic.
#pragma once

#include "framework/mpi/comm.hpp"
#include "framework/mpi/session.hpp"
#include "framework/plan/grid.hpp"

namespace dovetail {

struct RankGroups {
  MpiComm world;      ///< set-up and results, main thread
  MpiComm ep;         ///< ranks of equal dp_rank, ordered by ep_rank
  MpiComm dp;         ///< ranks of equal ep_rank, ordered by dp_rank: the replicas
  MpiComm exchange;   ///< the ep group again: token rows, comm lane
  MpiComm counts;     ///< the ep group again: row counts, compute lane
  MpiComm agreement;  ///< the world again: one reduction a step
  MpiComm control;    ///< the world again: failures
};

/// Collective over the world. Blocks inside MPI: start-up only. Throws ContractError where the grid
/// is not of this world's size.
RankGroups make_rank_groups(const MpiSession& session, const RankGrid& grid);

}  // namespace dovetail
