// Starts of ops that the host enqueues one by one.
#include <algorithm>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/clock.hpp"
#include "framework/exec/executor.hpp"
#include "framework/exec/lane_edges.hpp"
#include "tests/gpu/marker_step.hpp"
#include "tests/gpu/runner_options.hpp"
#include "tests/gpu/timed_step.hpp"

namespace dovetail {
namespace {

using test::be_late;
using test::dual_batch;
using test::first_of;
using test::MarkerStep;
using test::own_gpu;
using test::TimeStampUse;

/// A step whose ops the test itself enqueues, in its own thread.
struct OwnStep {
  explicit OwnStep(const Schedule& own_schedule)
      : schedule(own_schedule), executor(own_gpu()), body(schedule) {
    executor.enter_thread(-1);
    run([](int) {}, [] {});  // loads kernels
  }

  /// `ahead` of each op, `behind` all of them.
  template <typename Ahead, typename Behind>
  void run(const Ahead& ahead, const Behind& behind) {
    const int num_ops = static_cast<int>(schedule.ops.size());
    times.reset(schedule.ops.size());
    body.reset(1);
    executor.begin_step(schedule, body, PassKind::full, &times);
    for (int i = 0; i < num_ops; ++i) {
      ahead(i);
      executor.enqueue(i);
    }
    behind();
    executor.end_step();
    EXPECT_TRUE(body.errors(1).empty()) << first_of(body.errors(1));
  }

  const Schedule schedule;
  CudaExecutor executor;
  MarkerStep body;
  OpTimes times;
};

/// The first op ends when the host has enqueued all: no other op may have waited for the host.
TEST(EagerTimes, AnOpStartsWhenWhatItWaitsForHasEnded) {
  DOVETAIL_REQUIRE_GPU();
  OwnStep step(dual_batch());
  step.body.awaiting_op = 0;
  step.run([](int) {}, [&] { step.body.raise_flag(); });
  EXPECT_EQ(step.body.missed(), 0);
  LaneEdges edges;
  find_lane_edges(step.schedule, PassKind::full, edges);
  for (std::size_t i = 1; i < step.schedule.ops.size(); ++i) {
    std::int64_t latest_ns = -1;
    for (const int other : {edges.before[i], edges.wait_for[i]}) {
      latest_ns = other < 0
                      ? latest_ns
                      : std::max(latest_ns, step.times.end_ns[static_cast<std::size_t>(other)]);
    }
    EXPECT_EQ(step.times.start_ns[i], latest_ns)
        << describe_op(static_cast<int>(i), step.schedule.ops[i]);
  }
}

/// Whether ops write when they begin.
class EagerTimesByStamps : public ::testing::TestWithParam<TimeStampUse> {};

/// What the host is late between two ops is part of neither, but where the second one tells the end
/// of the first one.
TEST_P(EagerTimesByStamps, NoOpStartsBeforeTheHostComesToIt) {
  DOVETAIL_REQUIRE_GPU();
  constexpr std::int64_t kLateNs = 1'000'000;
  OwnStep step(dual_batch(/*num_layers=*/4));
  step.body.time_stamps = GetParam();
  std::vector<std::int64_t> came_ns;
  step.run(
      [&](int) {
        be_late(kLateNs);
        came_ns.push_back(now_ns());
      },
      [] {});
  const auto error_ns = step.executor.clock_alignment().error_ns;
  ASSERT_LT(error_ns, kLateNs / 4);
  int num_told = 0;
  for (std::size_t i = 0; i < step.schedule.ops.size(); ++i) {
    const auto name = describe_op(static_cast<int>(i), step.schedule.ops[i]);
    EXPECT_GE(step.times.start_ns[i], came_ns[i] - error_ns) << name;
    const EndSource& end = step.executor.eager_events().ends[i];
    if (end.kind == EndKind::stamp) {
      ++num_told;
      EXPECT_EQ(step.times.end_ns[i], step.times.start_ns[static_cast<std::size_t>(end.op)])
          << name;
    } else {
      EXPECT_LT(step.times.end_ns[i] - step.times.start_ns[i], kLateNs / 2) << name;
    }
  }
  EXPECT_EQ(num_told > 0, GetParam() == TimeStampUse::write);
}

INSTANTIATE_TEST_SUITE_P(Uses,
                         EagerTimesByStamps,
                         ::testing::Values(TimeStampUse::leave, TimeStampUse::write),
                         [](const auto& tested) {
                           return tested.param == TimeStampUse::leave ? "none" : "starts";
                         });

}  // namespace
}  // namespace dovetail
