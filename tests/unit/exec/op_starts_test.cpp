// Starts of ops from the ends of others, also where these contradict each other.
#include "framework/exec/op_starts.hpp"

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

namespace dovetail {
namespace {

using Times = std::vector<std::int64_t>;

/// attention, route, dispatch beside shared_experts, experts behind both.
Schedule small_step() {
  Schedule schedule;
  for (const Phase phase :
       {Phase::attention, Phase::route, Phase::dispatch, Phase::shared_experts, Phase::experts}) {
    schedule.ops.push_back({.layer = 0, .phase = phase, .waits = {}});
  }
  return schedule;
}

const OpsBefore kBefore = {{-1, -1}, {0, -1}, {-1, 1}, {1, -1}, {3, 2}};

OpTimes times_of(std::int64_t first_start_ns, const Times& end_ns) {
  OpTimes times;
  times.reset(end_ns.size());
  times.start_ns[0] = first_start_ns;
  times.end_ns = end_ns;
  return times;
}

TEST(OpStarts, AreTheLaterEnds) {
  auto times = times_of(100, {200, 300, 450, 400, 600});
  EXPECT_EQ(fill_starts(small_step(), PassKind::full, kBefore, times), 0);
  EXPECT_EQ(times.start_ns, (Times{100, 200, 300, 300, 450}));
  EXPECT_EQ(times.end_ns, (Times{200, 300, 450, 400, 600}));

  times = times_of(100, {200, 300, 350, 400, 600});
  EXPECT_EQ(fill_starts(small_step(), PassKind::full, kBefore, times), 0);
  EXPECT_EQ(times.start_ns.back(), 400);
}

/// The end of op 2 is 40 ns before its start, and what is behind it does not start before either.
TEST(OpStarts, TellWhatContradictsThem) {
  auto times = times_of(100, {200, 300, 260, 290, 600});
  EXPECT_EQ(fill_starts(small_step(), PassKind::full, kBefore, times), 40);
  EXPECT_EQ(times.start_ns, (Times{100, 200, 300, 300, 300}));
  EXPECT_EQ(times.end_ns, (Times{200, 300, 300, 300, 600}));
}

TEST(OpStarts, OfOpsThatAPassLeavesOutStayUnknown) {
  auto times = times_of(-1, {-1, -1, 450, -1, -1});
  times.start_ns[2] = 400;
  const OpsBefore alone(5, {-1, -1});
  EXPECT_EQ(fill_starts(small_step(), PassKind::comm_only, alone, times), 0);
  EXPECT_EQ(times.start_ns, (Times{-1, -1, 400, -1, -1}));
  EXPECT_EQ(times.end_ns, (Times{-1, -1, 450, -1, -1}));
}

/// An op with a start of its own: both times are of one clock, and nothing is changed.
TEST(OpStarts, ThatAreKnownStay) {
  auto times = times_of(250, {200, 300, 450, 400, 600});
  EXPECT_EQ(fill_starts(small_step(), PassKind::full, kBefore, times), 0);
  EXPECT_EQ(times.start_ns[0], 250);
  EXPECT_EQ(times.end_ns[0], 200);
}

}  // namespace
}  // namespace dovetail
