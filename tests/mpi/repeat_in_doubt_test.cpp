// Measurements that some rank doubts are made again by all.
#include "framework/run/repeat_in_doubt.hpp"

#include <chrono>

#include <gtest/gtest.h>

#include "tests/support/mpi_world.hpp"

namespace dovetail::test {
namespace {

/// How often each rank has measured where the last rank doubts so many times.
int num_runs(int num_doubts) {
  const auto world = session().world();
  const bool is_last = world_rank() == world_size() - 1;
  int count = 0;
  repeat_in_doubt(world, {.timeout = std::chrono::seconds(30)}, [&] {
    ++count;
    return is_last && count <= num_doubts;
  });
  return count;
}

TEST(RepeatInDoubt, IsOnAllRanksUntilNoneDoubts) {
  EXPECT_EQ(num_runs(0), 1);
  EXPECT_EQ(num_runs(1), 2);
  EXPECT_EQ(num_runs(kMostRepeats), kMostRepeats + 1);
}

TEST(RepeatInDoubt, Ends) {
  EXPECT_EQ(num_runs(100), kMostRepeats + 1);
}

}  // namespace
}  // namespace dovetail::test
