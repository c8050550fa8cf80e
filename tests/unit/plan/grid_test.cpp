// The rank grid and the experts that a rank owns.
#include "framework/plan/grid.hpp"

#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

TEST(Grid, IsABijection) {
  for (int replicas = 1; replicas <= 4; ++replicas) {
    for (int ep = 1; ep <= 8; ++ep) {
      const RankGrid grid = make_grid(replicas * ep, ep);
      EXPECT_EQ(grid.num_replicas(), replicas);
      std::set<std::pair<DpRank, EpRank>> places;
      for (int r = 0; r < grid.world_size; ++r) {
        const Rank rank(r);
        EXPECT_EQ(grid.rank(grid.dp_rank(rank), grid.ep_rank(rank)), rank);
        EXPECT_LT(grid.dp_rank(rank).value, replicas);
        EXPECT_LT(grid.ep_rank(rank).value, ep);
        places.insert({grid.dp_rank(rank), grid.ep_rank(rank)});
      }
      EXPECT_EQ(places.size(), static_cast<std::size_t>(grid.world_size));
    }
  }
  EXPECT_EQ(make_grid(6, 3).rank(DpRank(1), EpRank(2)), Rank(5));
}

TEST(Grid, RefusesWhatDoesNotDivide) {
  EXPECT_THROW(make_grid(3, 2), InputError);
  EXPECT_THROW(make_grid(0, 1), InputError);
  EXPECT_THROW(make_grid(2, 0), InputError);
  EXPECT_THROW(make_grid(-2, -1), InputError);
  EXPECT_THROW(make_grid(1, 2), InputError);
}

TEST(Grid, ExpertsAreEqualContiguousBlocks) {
  for (const int ep : {1, 2, 3, 6}) {
    std::vector<int> owners(12, -1);
    for (int r = 0; r < ep; ++r) {
      const auto [first, last] = owned_experts(12, ep, EpRank(r));
      EXPECT_EQ(last - first, 12 / ep);
      for (int e = first; e < last; ++e) {
        EXPECT_EQ(owners[static_cast<std::size_t>(e)], -1);
        owners[static_cast<std::size_t>(e)] = r;
      }
    }
    for (std::size_t e = 0; e < owners.size(); ++e) {
      EXPECT_EQ(owners[e], static_cast<int>(e) / (12 / ep));
    }
  }
  EXPECT_THROW(owned_experts(12, 5, EpRank(0)), InputError);
  EXPECT_THROW(owned_experts(0, 1, EpRank(0)), InputError);
  EXPECT_THROW(owned_experts(12, 2, EpRank(2)), ContractError);
}

}  // namespace
}  // namespace dovetail
