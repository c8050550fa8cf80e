// Clock offsets on one host, where all ranks read the same clock.
#include "framework/mpi/clock.hpp"

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/clock.hpp"
#include "framework/record/rank_clock.hpp"
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

/// Clocks that run faster by the rank: two estimates put the times between them on rank 0's.
TEST(Clock, TwoEstimatesRemoveADrift) {
  const MpiComm comm = session().world();
  const std::int64_t began_ns = now_ns();
  constexpr double drift = 0.01;
  const auto own_ns = [&](std::int64_t real_ns) {
    return real_ns + kShiftNs +
           std::llround(drift * world_rank() * static_cast<double>(real_ns - began_ns));
  };
  const auto estimate = [&] {
    const auto found = estimate_clock_offset(comm, {}, [&] { return own_ns(now_ns()); });
    return ClockPoint{found.at_ns, -found.offset_ns, found.error_bound_ns};
  };
  const auto before = estimate();
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  const std::int64_t middle_ns = now_ns();
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  const auto after = estimate();
  const RankClock clock(std::vector{before, after});
  const auto own_middle_ns = own_ns(middle_ns);
  const auto off_ns =
      std::abs(own_middle_ns + clock.offset_ns(own_middle_ns) - middle_ns - kShiftNs);
  EXPECT_LE(off_ns, clock.error_ns(own_middle_ns) * 11 / 10 + 1000) << "it drifts in a trip, too";
  if (world_rank() > 0) {
    EXPECT_GT(std::abs(before.offset_ns - after.offset_ns), 1'000'000) << "2.9 ms without removal";
  }
}

}  // namespace
}  // namespace dovetail::test
