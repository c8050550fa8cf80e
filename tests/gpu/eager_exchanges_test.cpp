// Ends of exchanges in eager steps and between the pieces of a graph: by what follows them where
// the host is ahead, else by events.
#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/order_statistics.hpp"
#include "framework/exec/host_lead.hpp"
#include "tests/gpu/timed_step.hpp"

namespace dovetail {
namespace {

using test::be_late;
using test::behind_two_alike;
using test::followers;
using test::timed_schedule;
using test::TimedStep;
using test::TimeStampUse;

constexpr std::int64_t kSpinNs = 150'000;  ///< an op's kernels: the host is ahead

/// Exchanges whose ends are told where the host is ahead, by which op. An eager step must have seen
/// how the layers begin; pieces are known.
std::vector<int> told(const Schedule& schedule, GraphMode mode) {
  const auto next = followers(schedule, /*exchanged=*/true);
  return mode == GraphMode::none ? behind_two_alike(schedule, next) : next;
}

void run_until_known(TimedStep& step) {
  OpTimes times;
  for (int i = 0; i < HostLead::kExpectedSteps; ++i) {
    step.run(times);
  }
}

/// Exchanges whose ends are told by what follows them.
int num_told(const StepEvents& events, const Schedule& schedule) {
  int count = 0;
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    count += events.ends[i].kind == EndKind::stamp && is_exchange(schedule.ops[i].phase) ? 1 : 0;
  }
  return count;
}

class EagerExchangesOf : public ::testing::TestWithParam<GraphMode> {};

TEST_P(EagerExchangesOf, AreToldByWhatFollowsOnceTheHostWasAhead) {
  DOVETAIL_REQUIRE_GPU();
  for (const auto& schedule : {timed_schedule("sequential", 1), timed_schedule("dual_batch", 2)}) {
    const auto next = told(schedule, GetParam());
    const bool has_any = std::any_of(next.begin(), next.end(), [](int op) { return op >= 0; });
    EXPECT_EQ(has_any, schedule.num_ubatches == 1) << "the other lane waits for exchanges";
    TimedStep step(schedule, kSpinNs, GetParam());
    step.use(TimeStampUse::write, TimeStampUse::leave);
    for (int repeat = 0; repeat < HostLead::kExpectedSteps + 2; ++repeat) {
      OpTimes times;
      step.run(times);
      const bool is_known = repeat >= HostLead::kExpectedSteps;
      for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
        if (!is_exchange(schedule.ops[i].phase)) {
          continue;
        }
        const auto name = describe_op(static_cast<int>(i), schedule.ops[i]);
        const EndSource expected = is_known && next[i] >= 0 ? EndSource{EndKind::stamp, next[i]}
                                                            : EndSource{EndKind::event};
        EXPECT_EQ(step.events().ends[i], expected) << name << ", step " << repeat;
      }
      EXPECT_EQ(times.doubt_ns, 0);
    }
  }
}

/// Against the same steps in which no kernel writes a time stamp, so that events tell all.
TEST_P(EagerExchangesOf, TakeAsLongByWhatFollows) {
  DOVETAIL_REQUIRE_GPU();
  const auto schedule = timed_schedule("sequential", 1);
  const auto next = told(schedule, GetParam());
  std::map<TimeStampUse, std::vector<double>> medians;
  double error_ns = 0;
  TimedStep step(schedule, kSpinNs, GetParam());
  for (const auto use : {TimeStampUse::leave, TimeStampUse::write}) {
    step.use(use, TimeStampUse::leave);
    run_until_known(step);
    std::vector<std::vector<double>> all(schedule.ops.size());
    for (int repeat = 0; repeat < 21; ++repeat) {
      OpTimes times;
      step.run(times);
      for (std::size_t i = 0; i < all.size(); ++i) {
        all[i].push_back(static_cast<double>(times.end_ns[i] - times.start_ns[i]));
      }
      error_ns = std::max(error_ns, static_cast<double>(step.runner.clock_alignment().error_ns));
    }
    for (auto& lengths : all) {
      medians[use].push_back(median(lengths));
    }
  }
  for (std::size_t i = 0; i < next.size(); ++i) {
    if (next[i] >= 0) {
      EXPECT_EQ(step.events().ends[i].kind, EndKind::stamp);
      EXPECT_NEAR(
          medians[TimeStampUse::write][i], medians[TimeStampUse::leave][i], error_ns + 10'000)
          << describe_op(static_cast<int>(i), schedule.ops[i]);
    }
  }
}

/// The twin: the host is late once with what follows an exchange. Its end cannot be right; this is
/// said, and the next steps have an event there again. `is_in_launch`: late between the ask for a
/// time stamp and the launch, else behind the exchange.
void expect_doubt_of_a_late_host(GraphMode mode, bool is_in_launch) {
  constexpr std::int64_t kLateNs = 20'000'000;  // more than a step takes
  const auto schedule = timed_schedule("sequential", 1);
  const auto next = told(schedule, mode);
  const auto last = static_cast<std::size_t>(
      std::find_if(next.rbegin(), next.rend(), [](int op) { return op >= 0; }).base() -
      next.begin() - 1);
  TimedStep step(schedule, kSpinNs, mode);
  step.use(TimeStampUse::write, TimeStampUse::leave);
  run_until_known(step);
  bool is_late = true;
  const int late_op = is_in_launch ? next[last] : static_cast<int>(last);
  (is_in_launch ? step.body.asked : step.body.behind) = [&](int index, const Op&) {
    if (is_late && index == late_op) {
      be_late(kLateNs);
    }
  };
  OpTimes times;
  step.run(times);
  is_late = false;
  EXPECT_EQ(step.events().ends[last].kind, EndKind::stamp);
  const auto length_ns = times.end_ns[last] - times.start_ns[last];
  EXPECT_GT(length_ns, kLateNs / 2) << "was ahead all the same";
  EXPECT_GE(times.doubt_ns, length_ns);
  step.run(times);
  EXPECT_EQ(step.events().ends[last].kind, EndKind::event);
  EXPECT_LT(times.end_ns[last] - times.start_ns[last], kLateNs / 2);
  EXPECT_EQ(times.doubt_ns, 0);
}

TEST_P(EagerExchangesOf, AreInDoubtWhereTheHostWasLate) {
  DOVETAIL_REQUIRE_GPU();
  expect_doubt_of_a_late_host(GetParam(), /*is_in_launch=*/false);
}

/// The host does not come to the ops within a piece.
TEST(EagerExchanges, AreInDoubtWhereTheHostWasLateWithinALaunch) {
  DOVETAIL_REQUIRE_GPU();
  expect_doubt_of_a_late_host(GraphMode::none, /*is_in_launch=*/true);
}

INSTANTIATE_TEST_SUITE_P(Modes,
                         EagerExchangesOf,
                         ::testing::Values(GraphMode::none, GraphMode::piecewise),
                         [](const auto& tested) {
                           return tested.param == GraphMode::none ? "eager" : "pieces";
                         });

/// What one executor has learned another one of the same policy knows: engines are made anew.
TEST(EagerExchanges, AreToldByWhatEarlierExecutorsHaveLearned) {
  DOVETAIL_REQUIRE_GPU();
  const auto schedule = timed_schedule("sequential", 1);
  HostLead host_lead;
  for (const bool is_first : {true, false}) {
    TimedStep step(schedule, kSpinNs, GraphMode::none, &host_lead);
    step.use(TimeStampUse::write, TimeStampUse::leave);
    OpTimes times;
    step.run(times);
    EXPECT_EQ(num_told(step.events(), schedule) == 0, is_first);
    run_until_known(step);
  }
}

/// Where ops are held back, what follows an exchange begins when the host lets it.
TEST(EagerExchanges, AreToldByEventsWhereOpsAreHeldBack) {
  DOVETAIL_REQUIRE_GPU();
  const auto schedule = timed_schedule("sequential", 1);
  TimedStep step(schedule, kSpinNs, GraphMode::none);
  step.use(TimeStampUse::write, TimeStampUse::leave);
  run_until_known(step);
  for (const bool gated : {true, false}) {
    OpTimes times;
    step.run(times, gated);
    EXPECT_EQ(num_told(step.events(), schedule) == 0, gated);
  }
}

}  // namespace
}  // namespace dovetail
