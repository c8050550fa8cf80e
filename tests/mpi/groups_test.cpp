// Who is in which communicator, for every grid that the world allows.
#include "framework/mpi/groups.hpp"

#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/mpi/check.hpp"
#include "tests/support/mpi_world.hpp"

namespace dovetail::test {
namespace {

// World ranks of the communicator's members, in its order.
std::vector<int> members(const MpiComm& comm) {
  std::vector<int> all(static_cast<std::size_t>(comm.size()), -1);
  const int mine = world_rank();
  DOVETAIL_MPI(MPI_Allgather(&mine, 1, MPI_INT, all.data(), 1, MPI_INT, comm.raw()));
  return all;
}

bool congruent(const MpiComm& a, const MpiComm& b) {
  int result = MPI_UNEQUAL;
  DOVETAIL_MPI(MPI_Comm_compare(a.raw(), b.raw(), &result));
  return result == MPI_CONGRUENT;  // the same members in the same order, traffic apart
}

TEST(Groups, MembersOfEveryGrid) {
  for (int expert_parallel = 1; expert_parallel <= world_size(); ++expert_parallel) {
    if (world_size() % expert_parallel != 0) {
      continue;
    }
    SCOPED_TRACE("expert_parallel " + std::to_string(expert_parallel));
    const RankGroups groups = make_rank_groups(session(), {world_size(), expert_parallel});
    // The slow way: lay out all ranks row by row, then look for our row and column.
    std::vector<int> world;
    std::vector<int> row;
    std::vector<int> column;
    for (int dp = 0, rank = 0; dp < world_size() / expert_parallel; ++dp) {
      for (int ep = 0; ep < expert_parallel; ++ep, ++rank) {
        world.push_back(rank);
        if (dp == world_rank() / expert_parallel) {
          row.push_back(rank);
        }
        if (ep == world_rank() % expert_parallel) {
          column.push_back(rank);
        }
      }
    }
    EXPECT_EQ(members(groups.world), world);
    EXPECT_EQ(members(groups.ep), row);
    EXPECT_EQ(members(groups.dp), column);
    EXPECT_TRUE(congruent(groups.ep, groups.exchange));
    EXPECT_TRUE(congruent(groups.ep, groups.counts));
    EXPECT_TRUE(congruent(groups.exchange, groups.counts));
    EXPECT_TRUE(congruent(groups.world, groups.agreement));
    EXPECT_TRUE(congruent(groups.world, groups.control));
    EXPECT_TRUE(congruent(groups.agreement, groups.control));
  }
}

TEST(Groups, RefuseAnotherWorld) {
  EXPECT_THROW(make_rank_groups(session(), {world_size() + 1, 1}), ContractError);
}

TEST(Session, KnowsTheWorld) {
  int rank = -1;
  int size = -1;
  DOVETAIL_MPI(MPI_Comm_rank(MPI_COMM_WORLD, &rank));
  DOVETAIL_MPI(MPI_Comm_size(MPI_COMM_WORLD, &size));
  EXPECT_EQ(session().rank().value, rank);
  EXPECT_EQ(session().world_size(), size);
  EXPECT_EQ(session().local_size(), size);  // tests run on one host
  EXPECT_EQ(session().local_rank(), rank);
  EXPECT_FALSE(session().host().empty());
  EXPECT_FALSE(MpiSession::library_version().empty());
  int level = MPI_THREAD_SINGLE;
  DOVETAIL_MPI(MPI_Query_thread(&level));
  EXPECT_EQ(level, MPI_THREAD_MULTIPLE);
}

TEST(Comm, MovesAndRefusesToBeEmpty) {
  MpiComm first = session().world();
  const MPI_Comm raw = first.raw();
  MpiComm second = std::move(first);
  EXPECT_EQ(second.raw(), raw);
  const MpiComm empty;
  EXPECT_THROW(static_cast<void>(empty.rank()), ContractError);
  EXPECT_THROW(static_cast<void>(empty.size()), ContractError);
  first = std::move(second);
  EXPECT_EQ(first.size(), world_size());
  // Errors come back as exceptions instead of ending the job.
  int value = 0;
  EXPECT_THROW(DOVETAIL_MPI(MPI_Bcast(&value, 1, MPI_INT, world_size(), first.raw())), RunError);
}

}  // namespace
}  // namespace dovetail::test
