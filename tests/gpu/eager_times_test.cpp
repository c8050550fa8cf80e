// Times of ops that the host enqueues one by one, or that pieces of a graph hold: what tells them,
// and that this is right.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <c10/cuda/CUDAStream.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/base/order_statistics.hpp"
#include "framework/cuda/delay_kernel.hpp"
#include "framework/cuda/event.hpp"
#include "framework/exec/executor.hpp"
#include "tests/gpu/timed_step.hpp"

namespace dovetail {
namespace {

using test::behind_two_alike;
using test::followers;
using test::MarkerStep;
using test::num_of_kind;
using test::own_gpu;
using test::timed_schedule;
using test::TimedStep;
using test::TimeStampUse;
using test::walk_by;
using test::warm_up;

std::vector<Schedule> schedules() {
  return {timed_schedule("sequential", 1),
          timed_schedule("shared_expert", 1),
          timed_schedule("dual_batch", 2)};
}

/// Where all ops begin or end with a kernel that writes time stamps, events are left for exchanges
/// and for what comes before the first ops of a phase.
TEST(EagerTimes, AreToldByTimeStampsWhereTheseCan) {
  DOVETAIL_REQUIRE_GPU();
  for (const auto& schedule : schedules()) {
    const auto num_ops = static_cast<int>(schedule.ops.size());
    const auto num_exchanges =
        static_cast<int>(std::count_if(schedule.ops.begin(), schedule.ops.end(), [](const Op& op) {
          return is_exchange(op.phase);
        }));
    const auto next = behind_two_alike(schedule, followers(schedule, /*exchanged=*/false));
    const auto num_told = std::count_if(next.begin(), next.end(), [](int op) { return op >= 0; });
    ASSERT_GT(num_told, 0);
    TimedStep step(schedule, 2'000, GraphMode::none);
    OpTimes times;
    step.use(TimeStampUse::leave, TimeStampUse::leave);
    step.run(times);
    EXPECT_EQ(num_of_kind(step.events(), EndKind::event), num_ops) << schedule.name;
    step.use(TimeStampUse::leave, TimeStampUse::write);
    step.run(times);
    EXPECT_EQ(num_of_kind(step.events(), EndKind::own), num_ops - num_exchanges) << schedule.name;
    EXPECT_EQ(num_of_kind(step.events(), EndKind::event), num_exchanges) << schedule.name;
    step.use(TimeStampUse::write, TimeStampUse::leave);
    step.run(times);
    const auto num_stamps = num_of_kind(step.events(), EndKind::stamp);
    EXPECT_EQ(num_stamps, num_told) << schedule.name;
    EXPECT_EQ(num_of_kind(step.events(), EndKind::event), num_ops - num_stamps) << schedule.name;
    for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
      const EndSource& end = step.events().ends[i];
      if (end.kind == EndKind::stamp) {
        EXPECT_EQ(end.op, next[i]) << describe_op(static_cast<int>(i), schedule.ops[i]);
      }
    }
  }
}

/// An exchange without peers enqueues nothing: it ends as it starts, no event is recorded for it,
/// and what is behind it starts behind what is before it.
TEST(EagerTimes, OfExchangesOfOneRankAreTheirStarts) {
  DOVETAIL_REQUIRE_GPU();
  constexpr std::int64_t kSpinNs = 200'000;  // the host is ahead
  for (const auto& schedule : schedules()) {
    TimedStep step(schedule, kSpinNs, GraphMode::none);
    step.body.has_peers = false;
    OpTimes times;
    step.runner.run_eager(schedule, step.body, PassKind::full, &times);
    std::int64_t busy_ns = 0;
    for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
      const bool is_empty = is_exchange(schedule.ops[i].phase);
      const auto name = describe_op(static_cast<int>(i), schedule.ops[i]);
      EXPECT_EQ(step.events().ends[i].kind, is_empty ? EndKind::start : EndKind::event) << name;
      EXPECT_EQ(times.end_ns[i] == times.start_ns[i], is_empty) << name;
      busy_ns += times.end_ns[i] - times.start_ns[i];
    }
    const auto whole_ns = *std::max_element(times.end_ns.begin(), times.end_ns.end()) -
                          *std::min_element(times.start_ns.begin(), times.start_ns.end());
    EXPECT_EQ(busy_ns, whole_ns) << schedule.name << ": no gap, nothing twice";
    step.runner.run_eager(schedule, step.body, PassKind::comm_only, &times);
    for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
      EXPECT_EQ(times.start_ns[i] > 0, is_exchange(schedule.ops[i].phase));
      EXPECT_EQ(times.end_ns[i], times.start_ns[i]);
    }
  }
}

/// [ops] median time over some steps, and the largest error of the clocks.
std::vector<double> medians_of(TimedStep& step, std::size_t num_ops, double& error_ns) {
  constexpr int kSteps = 21;
  std::vector<std::vector<double>> all(num_ops);
  for (int repeat = 0; repeat < kSteps; ++repeat) {
    OpTimes times;
    step.run(times);
    for (std::size_t i = 0; i < num_ops; ++i) {
      all[i].push_back(static_cast<double>(times.end_ns[i] - times.start_ns[i]));
    }
    error_ns = std::max(error_ns, static_cast<double>(step.runner.clock_alignment().error_ns));
  }
  std::vector<double> medians;
  for (auto& values : all) {
    medians.push_back(median(values));
  }
  return medians;
}

TEST(EagerTimes, ByTimeStampsAgreeWithThoseByEvents) {
  DOVETAIL_REQUIRE_GPU();
  for (const GraphMode mode : {GraphMode::none, GraphMode::piecewise}) {
    for (const auto& schedule : schedules()) {
      TimedStep step(schedule, 150'000, mode);
      double error_ns = 0;
      step.use(TimeStampUse::leave, TimeStampUse::leave);
      const auto by_events = medians_of(step, schedule.ops.size(), error_ns);
      for (const bool ends : {false, true}) {
        step.use(ends ? TimeStampUse::leave : TimeStampUse::write,
                 ends ? TimeStampUse::write : TimeStampUse::leave);
        const auto by_stamps = medians_of(step, schedule.ops.size(), error_ns);
        EXPECT_LT(num_of_kind(step.events(), EndKind::event), static_cast<int>(by_stamps.size()));
        // The first op waits for nothing but the host, which its own time stamp leaves out.
        for (std::size_t i = 1; i < schedule.ops.size(); ++i) {
          EXPECT_NEAR(by_stamps[i], by_events[i], error_ns + 10'000)
              << describe_op(static_cast<int>(i), schedule.ops[i]) << " of " << schedule.name
              << ", " << to_string(mode) << (ends ? ", ends" : ", starts");
        }
      }
    }
  }
}

/// The twin: a kernel whose launcher took a time stamp does not write it.
TEST(EagerTimes, ThatAreNotWrittenAreAnError) {
  DOVETAIL_REQUIRE_GPU();
  for (const GraphMode mode : {GraphMode::none, GraphMode::piecewise}) {
    TimedStep step(timed_schedule("sequential", 1), 2'000, mode);
    OpTimes times;
    for (const bool ends : {false, true}) {
      step.use(ends ? TimeStampUse::leave : TimeStampUse::forget,
               ends ? TimeStampUse::forget : TimeStampUse::leave);
      try {
        step.run(times);
        ADD_FAILURE() << "nothing was thrown";
      } catch (const RunError& error) {
        EXPECT_NE(
            std::string(error.what())
                .find(std::string("its ") + (ends ? "end" : "start") + " has not been written"),
            std::string::npos)
            << error.what();
      }
      step.use(ends ? TimeStampUse::leave : TimeStampUse::write,
               ends ? TimeStampUse::write : TimeStampUse::leave);
      step.run(times);
      EXPECT_GT(times.end_ns.back(), 0);
    }
  }
}

/// Runs ops of a MarkerStep, with a delay behind some of them that is not seen: by another stream,
/// as work of a library is not.
class DelayedBehind final : public StepBody {
 public:
  DelayedBehind(StepBody& body, std::int64_t delay_ns) : body_(body), delay_ns_(delay_ns) {}

  void run(const Op& op) override {
    body_.run(op);
    if (op.phase == Phase::route) {
      const auto stream = c10::cuda::getCurrentCUDAStream();
      there_.record(stream);
      there_.hold(other_);
      launch_delay(std::chrono::nanoseconds(delay_ns_), other_);
      back_.record(other_);
      back_.hold(stream);
    }
  }

 private:
  StepBody& body_;
  std::int64_t delay_ns_;
  c10::cuda::CUDAStream other_ = c10::cuda::getStreamFromPool();
  Event there_{Event::Kind::order};
  Event back_{Event::Kind::order};
};

/// Time stamps of an eager step are trusted to be of the first and the last kernel of an op, and
/// judged where ops are held back, which have events as well.
TEST(EagerTimes, DifferFromEventsWhereALastKernelIsNotTheLast) {
  DOVETAIL_REQUIRE_GPU();
  constexpr std::int64_t kBehindNs = 400'000;
  const Schedule schedule = timed_schedule("sequential", 1);
  MarkerStep body(schedule);
  body.end_stamps = TimeStampUse::write;
  body.time_stamps = TimeStampUse::write;
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::inline_walk));
  const auto& events = runner.executor().eager_events();
  for (const bool is_delayed : {false, true}) {
    DelayedBehind delayed(body, is_delayed ? kBehindNs : 0);
    StepBody& used = is_delayed ? static_cast<StepBody&>(delayed) : body;
    warm_up(runner, schedule, used);
    OpTimes times;
    runner.run_eager(schedule, used, PassKind::full, &times);
    EXPECT_EQ(events.most_apart_ns(times), 0) << "no time was taken twice";
    std::vector<double> apart_ns;
    for (int repeat = 0; repeat < 5; ++repeat) {
      runner.run_eager(schedule, used, PassKind::full, &times, /*gated=*/true);
      apart_ns.push_back(static_cast<double>(events.most_apart_ns(times)));
      EXPECT_GE(static_cast<double>(runner.clock_alignment().error_ns), apart_ns.back());
    }
    if (is_delayed) {
      EXPECT_GT(median(apart_ns), 0.9 * kBehindNs);
    } else {
      EXPECT_LT(median(apart_ns), 0.1 * kBehindNs);
    }
  }
}

/// A phase that began with a time stamp in the layers before was to tell the end of what it
/// follows.
TEST(EagerTimes, APhaseThatBeginsOtherwiseThanBeforeIsAnError) {
  DOVETAIL_REQUIRE_GPU();
  const Schedule schedule = timed_schedule("sequential", 1);
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::inline_walk));
  MarkerStep body(schedule);
  warm_up(runner, schedule, body);
  body.before = [&](int, const Op& op) {
    body.time_stamps = op.layer < 3 ? TimeStampUse::write : TimeStampUse::leave;
  };
  OpTimes times;
  try {
    runner.run_eager(schedule, body, PassKind::full, &times);
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("begins otherwise"), std::string::npos) << text;
    EXPECT_NE(text.find("layer 3"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace dovetail
