// Tests that must fail, for the test of the harness itself: each runs alone, under expect_end.py.
#include <chrono>
#include <cstdlib>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

#include "tests/support/mpi_world.hpp"

namespace dovetail::test {
namespace {

bool last_rank() {
  return world_rank() == world_size() - 1;
}

void hang() {
  for (;;) {
    std::this_thread::sleep_for(std::chrono::hours(1));
  }
}

TEST(Broken, FailsOnLastRank) {
  EXPECT_FALSE(last_rank()) << "this rank fails";
}

TEST(Broken, ThrowsOnLastRank) {
  if (last_rank()) {
    throw std::runtime_error("this rank throws");
  }
}

TEST(Broken, HangsOnLastRank) {
  if (last_rank()) {
    hang();
  }
}

TEST(Broken, HangsOnRankZero) {
  if (world_rank() == 0) {
    hang();
  }
}

TEST(Broken, FailsWhileTheOthersHang) {
  if (!last_rank()) {
    hang();
  }
  FAIL() << "this rank fails";
}

TEST(Broken, ExitsOnLastRank) {
  if (last_rank()) {
    _exit(0);
  }
}

TEST(Broken, StopsOnLastRank) {
  if (last_rank()) {
    ::raise(SIGSTOP);
  }
}

TEST(Broken, SkipsOnLastRank) {
  if (last_rank()) {
    GTEST_SKIP() << "only here";
  }
}

TEST(Broken, SkipsEverywhere) {
  GTEST_SKIP() << "agreed";
}

}  // namespace
}  // namespace dovetail::test
