// Clock offsets on one host, where all ranks read the same clock.
#include "framework/mpi/clock.hpp"

#include <cstdint>
#include <cstdlib>

#include <gtest/gtest.h>

#include "framework/base/clock.hpp"
#include "tests/support/mpi_world.hpp"

namespace dovetail::test {
namespace {

constexpr std::int64_t kShiftNs = 5'000'000'000;

TEST(Clock, OneHostHasOneClock) {
  const MpiComm comm = session().world();
  const ClockOffset offset = estimate_clock_offset(comm, {});
  EXPECT_LE(std::abs(offset.offset_ns), offset.error_bound_ns);
  EXPECT_EQ(offset.error_bound_ns > 0, world_rank() != 0);
}

TEST(Clock, FindsAShiftWithItsSign) {
  const MpiComm comm = session().world();
  const ClockOffset offset =
      estimate_clock_offset(comm, {}, [] { return now_ns() + kShiftNs * (world_rank() + 1); });
  EXPECT_LE(std::abs(offset.offset_ns - kShiftNs * world_rank()), offset.error_bound_ns);
}

}  // namespace
}  // namespace dovetail::test
