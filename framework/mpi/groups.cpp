#include "framework/mpi/groups.hpp"

#include "framework/base/check.hpp"

namespace dovetail {

RankGroups make_rank_groups(const MpiSession& session, const RankGrid& grid) {
  DOVETAIL_CHECK_EQ(grid.world_size, session.world_size());
  const int dp_rank = grid.dp_rank(session.rank()).value;
  const int ep_rank = grid.ep_rank(session.rank()).value;
  RankGroups groups;
  groups.world = session.world();
  groups.ep = MpiComm::split(groups.world.raw(), dp_rank, ep_rank);
  groups.dp = MpiComm::split(groups.world.raw(), ep_rank, dp_rank);
  groups.exchange = MpiComm::duplicate(groups.ep.raw());
  groups.counts = MpiComm::duplicate(groups.ep.raw());
  groups.agreement = MpiComm::duplicate(groups.world.raw());
  groups.control = MpiComm::duplicate(groups.world.raw());
  return groups;
}

}  // namespace dovetail
