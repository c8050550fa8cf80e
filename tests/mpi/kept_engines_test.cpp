// Ranks whose memory differs keep and free the same engines.
#include "framework/run/kept_engines.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/mpi_world.hpp"

namespace dovetail::test {
namespace {

using Freed = std::vector<std::size_t>;

/// Of a device of 3200 bytes, of which 100 are left free.
TurnMemory turn(std::int64_t free, std::int64_t held, std::int64_t passing) {
  return {.total = 3200, .free = free, .held = held, .passing = passing};
}

class KeptEnginesOfRanks : public ::testing::Test {
 protected:
  bool is_last() const { return world_rank() + 1 == world_size(); }

  Freed behind_turn(std::size_t policy, const TurnMemory& memory, std::int64_t num_caches = 0) {
    return kept_.choose_freed(policy, memory, kCacheBytes, num_caches);
  }

  static constexpr std::int64_t kCacheBytes = 7;
  RankGrid grid_ = make_grid(world_size(), world_size());
  RankGroups groups_ = make_rank_groups(session(), grid_);
  Ranks ranks_ = {.session = session(),
                  .grid = grid_,
                  .groups = groups_,
                  .wait = {.timeout = std::chrono::seconds(20)}};
  KeptEngines kept_{ranks_, 2};
};

TEST_F(KeptEnginesOfRanks, KeepAllWhereTheFullestHasRoom) {
  EXPECT_EQ(behind_turn(0, turn(is_last() ? 220 : 900, 20, 10)), Freed{});
  EXPECT_EQ(behind_turn(1, turn(is_last() ? 110 : 900, 30, 10)), Freed{});
  EXPECT_EQ(behind_turn(0, turn(is_last() ? 110 : 900, 20, 10)), Freed{});
}

TEST_F(KeptEnginesOfRanks, FreeWhereOneHasNoRoom) {
  EXPECT_EQ(behind_turn(0, turn(is_last() ? 219 : 900, 20, 10)), Freed{0});
  EXPECT_EQ(behind_turn(1, turn(900, 30, 10)), Freed{});
  EXPECT_EQ(behind_turn(0, turn(is_last() ? 109 : 900, 20, 10)), (Freed{0, 1}));
}

/// The rank that needs most counts, also where another one has less free.
TEST_F(KeptEnginesOfRanks, CountTheMostThatARankNeeds) {
  EXPECT_EQ(behind_turn(0, turn(219, is_last() ? 20 : 1, 10)), Freed{0});
  EXPECT_EQ(behind_turn(0, turn(219, is_last() ? 19 : 1, 10)), Freed{0})
      << "what an earlier turn took";
  EXPECT_EQ(behind_turn(0, turn(220, is_last() ? 20 : 1, 10)), Freed{});
}

TEST_F(KeptEnginesOfRanks, LeaveRoomForCachesAndTheirFilling) {
  auto memory = turn(220 + 2 * (kCacheBytes + 5), 20, 10);
  memory.filling = is_last() ? 5 : 0;
  EXPECT_EQ(behind_turn(0, memory, 2), Freed{});
  --memory.free;
  EXPECT_EQ(behind_turn(0, memory, 2), Freed{0});
  EXPECT_EQ(behind_turn(0, memory, 1), Freed{});
}

/// On the CPU.
TEST_F(KeptEnginesOfRanks, KeepAllWhereMemoryIsNotKnown) {
  EXPECT_EQ(kept_.choose_freed(0, std::nullopt, 1 << 20, 9), Freed{});
}

}  // namespace
}  // namespace dovetail::test
