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

const OpsBefore kBefore = {{}, {0}, {1}, {1}, {3, 2}};

OpTimes times_of(std::int64_t first_start_ns, const Times& end_ns) {
  OpTimes times;
  times.reset(end_ns.size());
  times.start_ns[0] = first_start_ns;
  times.end_ns = end_ns;
  return times;
}

TEST(OpStarts, AreTheLaterEnds) {
  auto times = times_of(100, {200, 300, 450, 400, 600});
  EXPECT_EQ(fill_starts(small_step(), PassKind::full, kBefore, {}, times), 0);
  EXPECT_EQ(times.start_ns, (Times{100, 200, 300, 300, 450}));
  EXPECT_EQ(times.end_ns, (Times{200, 300, 450, 400, 600}));

  times = times_of(100, {200, 300, 350, 400, 600});
  EXPECT_EQ(fill_starts(small_step(), PassKind::full, kBefore, {}, times), 0);
  EXPECT_EQ(times.start_ns.back(), 400);
}

TEST(OpStarts, AreNotBeforeTheHostComesToTheOp) {
  auto times = times_of(100, {200, 300, 450, 400, 600});
  times.start_ns = {100, 190, 310, 120, 500};
  EXPECT_EQ(fill_starts(small_step(), PassKind::full, kBefore, {}, times), 0);
  EXPECT_EQ(times.start_ns, (Times{100, 200, 310, 300, 500}));
  EXPECT_EQ(times.end_ns, (Times{200, 300, 450, 400, 600}));
  // By a clock that is 20 ns ahead.
  times = times_of(100, {200, 300, 450, 400, 600});
  times.start_ns[3] = 420;
  EXPECT_EQ(fill_starts(small_step(), PassKind::full, kBefore, {}, times), 20);
  EXPECT_EQ(times.start_ns[3], 400);
}

TEST(OpStarts, AreWhatTheOpHasWrittenWhereTheHostWasLate) {
  auto times = times_of(100, {200, 300, 450, 400, 600});
  times.start_ns = {100, 240, 310, 390, 470};
  const Times begun = {100, 240, 250, 390, 470};
  use_own_starts(begun, {-1, 260, 320, 410, 440}, kBefore, times);
  // No stamp; late; not late; not behind its end; not ahead of what it waits for.
  EXPECT_EQ(times.start_ns, (Times{100, 260, 310, 400, 450}));
  EXPECT_EQ(times.end_ns, (Times{200, 300, 450, 400, 600}));
  use_own_starts(Times(5, -1), {1, 1, 1, 1, 1}, kBefore, times);
  EXPECT_EQ(times.start_ns, (Times{100, 260, 310, 400, 450}));
}

/// The time of op 1's end was taken 40 ns late: op 2, which comes behind it, had ended by then.
TEST(OpStarts, LowerEndsThatWereTakenLate) {
  auto times = times_of(100, {200, 300, 260, 290, 600});
  EXPECT_EQ(fill_starts(small_step(), PassKind::full, kBefore, {}, times), 40);
  EXPECT_EQ(times.start_ns, (Times{100, 200, 260, 260, 290}));
  EXPECT_EQ(times.end_ns, (Times{200, 260, 260, 290, 600}));
}

/// All the way: what is before an op whose end is lowered has ended by then, too.
TEST(OpStarts, LowerEverythingBeforeAnEnd) {
  auto times = times_of(100, {500, 450, 420, 430, 400});
  EXPECT_EQ(fill_starts(small_step(), PassKind::full, kBefore, {}, times), 100);
  EXPECT_EQ(times.end_ns, (Times{400, 400, 400, 400, 400}));
  EXPECT_EQ(times.start_ns, (Times{100, 400, 400, 400, 400}));
}

TEST(OpStarts, OfOpsThatAPassLeavesOutStayUnknown) {
  auto times = times_of(-1, {-1, -1, 450, -1, -1});
  times.start_ns[2] = 400;
  const OpsBefore alone(5);
  EXPECT_EQ(fill_starts(small_step(), PassKind::comm_only, alone, {}, times), 0);
  EXPECT_EQ(times.start_ns, (Times{-1, -1, 400, -1, -1}));
  EXPECT_EQ(times.end_ns, (Times{-1, -1, 450, -1, -1}));
}

TEST(OpStarts, ThatAreKnownStayUnlessTheyWereTakenLate) {
  auto times = times_of(150, {200, 300, 450, 400, 600});
  EXPECT_EQ(fill_starts(small_step(), PassKind::full, kBefore, {}, times), 0);
  EXPECT_EQ(times.start_ns[0], 150);
  times = times_of(250, {200, 300, 450, 400, 600});
  EXPECT_EQ(fill_starts(small_step(), PassKind::full, kBefore, {}, times), 50);
  EXPECT_EQ(times.start_ns[0], 200);
  EXPECT_EQ(times.end_ns[0], 200);
}

/// A dispatch of one rank: it ends as it starts, and no time of it can be wrong.
TEST(OpStarts, OfEmptyOpsAreTheirEnds) {
  std::vector<EndSource> ends(5, {EndKind::event});
  ends[2] = {EndKind::start};
  const OpsBefore before = {{}, {0}, {1}, {1}, {3}};
  auto times = times_of(100, {200, 300, -1, 400, 600});
  EXPECT_EQ(fill_starts(small_step(), PassKind::full, before, ends, times), 0);
  EXPECT_EQ(times.start_ns, (Times{100, 200, 300, 300, 400}));
  EXPECT_EQ(times.end_ns, (Times{200, 300, 300, 400, 600}));
}

/// What starts behind empty ops starts behind what they do, and its end bounds no time of theirs.
TEST(OpStarts, BehindEmptyOpsAreBehindWhatTheseFollow) {
  std::vector<EndSource> ends(5, {EndKind::event});
  ends[1] = {EndKind::start};
  ends[2] = {EndKind::start};
  const OpsBefore before = {{}, {0}, {1}, {2}, {3, 2}};
  auto times = times_of(100, {200, -1, -1, 400, 600});
  times.start_ns[2] = 250;  // the host came to it then, and to what follows it
  times.start_ns[3] = 260;
  EXPECT_EQ(fill_starts(small_step(), PassKind::full, before, ends, times), 0);
  EXPECT_EQ(times.start_ns, (Times{100, 200, 250, 260, 400}));
  EXPECT_EQ(times.end_ns, (Times{200, 200, 250, 400, 600}));
}

/// The first op of a pass of exchanges that have nobody to exchange with.
TEST(OpStarts, OfAnEmptyOpBehindNoneIsKnownByItself) {
  const std::vector<EndSource> ends(5, {EndKind::start});
  auto times = times_of(100, {-1, -1, -1, -1, -1});
  EXPECT_EQ(fill_starts(small_step(), PassKind::full, kBefore, ends, times), 0);
  EXPECT_EQ(times.start_ns, (Times{100, -1, -1, -1, -1}));
  EXPECT_EQ(times.end_ns, (Times{100, -1, -1, -1, -1}));
}

}  // namespace
}  // namespace dovetail
