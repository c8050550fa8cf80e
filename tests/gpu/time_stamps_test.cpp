// Time stamps that kernels of a graph write: what they say, and that a missing one is no time.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/clock.hpp"
#include "framework/base/error.hpp"
#include "framework/base/order_statistics.hpp"
#include "framework/plan/policy.hpp"
#include "tests/gpu/capture_support.hpp"
#include "tests/gpu/graph_orders.hpp"
#include "tests/gpu/runner_options.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

using test::MarkerStep;
using test::own_gpu;
using test::TimeStampUse;
using test::walk_by;
using test::warm_up;

Schedule make(const std::string& policy, int num_ubatches, int num_groups = 1) {
  const ModelShape model{{testing::kMoe, testing::kDense, testing::kShared}};
  return policies().at(policy).make_schedule({.model = model,
                                              .phase = WorkPhase::decode,
                                              .num_ubatches = num_ubatches,
                                              .num_groups = num_groups});
}

std::vector<Schedule> schedules() {
  return {make("sequential", 1),
          make("shared_expert", 1),
          make("dual_batch", 2),
          make("staged", 2),
          make("expert_groups", 1, 2)};
}

int num_event_nodes(const CapturedStep& step) {
  return inspect(step.graph(0).raw()).count_by_type()["event record"];
}

/// Of a step whose ops all begin with a kernel that writes time stamps, or all end with one.
TEST(TimeStampsOfSteps, LeaveAChainNoEvents) {
  DOVETAIL_REQUIRE_GPU();
  const Schedule schedule = make("sequential", 1);
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::threads));
  MarkerStep body(schedule);
  warm_up(runner, schedule, body);
  const auto num_events = [&](TimeStampUse starts, TimeStampUse ends) {
    body.time_stamps = starts;
    body.end_stamps = ends;
    return num_event_nodes(*runner.capture(schedule, body, PassKind::full, GraphMode::full, true));
  };
  const auto& ops = schedule.ops;
  const auto num_exchanges = static_cast<int>(
      std::count_if(ops.begin(), ops.end(), [](const Op& op) { return is_exchange(op.phase); }));
  EXPECT_EQ(num_events(TimeStampUse::write, TimeStampUse::leave), 0);
  EXPECT_EQ(num_events(TimeStampUse::leave, TimeStampUse::write), num_exchanges);
  EXPECT_EQ(num_events(TimeStampUse::leave, TimeStampUse::leave), static_cast<int>(ops.size()) - 1)
      << "all but the end of the step";
}

/// The kernel that writes the start of an op is the first one of this op, and no other is.
TEST(TimeStampsOfSteps, AreOfTheFirstKernelOfTheOp) {
  DOVETAIL_REQUIRE_GPU();
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::threads));
  for (const auto& schedule : schedules()) {
    MarkerStep body(schedule);
    body.time_stamps = TimeStampUse::write;
    warm_up(runner, schedule, body);
    const auto step = runner.capture(schedule, body, PassKind::full, GraphMode::full, true);
    const auto shape = inspect(step->graph(0).raw());
    EXPECT_TRUE(test::graph_errors(schedule, PassKind::full, shape).empty()) << schedule.name;
    const StepEvents& events = step->events();
    for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
      EXPECT_EQ(events.heads[i] == OpHead::stamped, events.followed[i] >= 0);
      std::vector<int> writers;
      const auto* word = events.start_stamp(i);
      for (const auto& node : shape.nodes) {
        if (node.type == cudaGraphNodeTypeKernel && has_argument_within(node, word, word + 1) &&
            !test::is_timer_look(node)) {
          writers.push_back(first_kernel_argument(node));
          EXPECT_EQ(node.function.find("spread"), std::string::npos) << "a later kernel of the op";
        }
      }
      const std::vector<int> wanted(events.followed[i] >= 0 ? 1 : 0, static_cast<int>(i));
      EXPECT_EQ(writers, wanted) << describe_op(static_cast<int>(i), schedule.ops[i]);
    }
  }
}

/// Ends and starts of all ops of a replay, held against the schedule.
void expect_ordered(const Schedule& schedule,
                    const OpTimes& times,
                    std::int64_t before_ns,
                    std::int64_t after_ns) {
  std::vector<std::int64_t> end_of_lane(2, before_ns);
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    const Op& op = schedule.ops[i];
    const auto name = describe_op(static_cast<int>(i), op) + " of " + schedule.name;
    auto& last_ns = end_of_lane[static_cast<std::size_t>(op.lane)];
    EXPECT_GE(times.start_ns[i], last_ns) << name << " before its lane has come to it";
    EXPECT_GE(times.end_ns[i], times.start_ns[i]) << name;
    EXPECT_LE(times.end_ns[i], after_ns) << name;
    for (const int wait : op.waits) {
      EXPECT_GE(times.start_ns[i], times.end_ns[static_cast<std::size_t>(wait)])
          << name << " before op " << wait;
    }
    last_ns = times.end_ns[i];
  }
}

TEST(TimeStampsOfSteps, AreWithinTheReplayAndInOrder) {
  DOVETAIL_REQUIRE_GPU();
  auto random = test::make_random();
  for (const HandOff hand_off : test::kHandOffs) {
    CudaStepRunner runner(own_gpu(), walk_by(hand_off));
    for (const auto& schedule : schedules()) {
      MarkerStep body(schedule, 20'000, 20'000);
      body.time_stamps = TimeStampUse::write;
      warm_up(runner, schedule, body);
      const auto step = runner.capture(schedule, body, PassKind::full, GraphMode::full, true);
      for (int repeat = 0; repeat < 3; ++repeat) {
        // Also replays without times write stamps: those must not be taken for the next ones.
        test::expect_right(runner, body, *step, random, schedule.name);
        OpTimes times;
        const auto before_ns = now_ns();
        runner.replay(*step, &times);
        const auto after_ns = now_ns() - times.reading_ns;
        const auto error_ns = runner.clock_alignment().error_ns;
        expect_ordered(schedule, times, before_ns - error_ns, after_ns + error_ns);
      }
    }
  }
}

/// [ops] of the schedule: median time over some replays, and the largest error of the clocks.
struct Medians {
  std::vector<double> ns;
  double error_ns = 0;
};

Medians medians_of(CudaStepRunner& runner, CapturedStep& step) {
  constexpr int kReplays = 21;
  const std::size_t num_ops = step.schedule().ops.size();
  std::vector<std::vector<double>> all(num_ops);
  Medians medians;
  for (int repeat = 0; repeat < kReplays; ++repeat) {
    OpTimes times;
    runner.replay(step, &times);
    for (std::size_t i = 0; i < num_ops; ++i) {
      all[i].push_back(static_cast<double>(times.end_ns[i] - times.start_ns[i]));
    }
    medians.error_ns =
        std::max(medians.error_ns, static_cast<double>(runner.clock_alignment().error_ns));
  }
  for (auto& values : all) {
    medians.ns.push_back(median(values));
  }
  return medians;
}

TEST(TimeStampsOfSteps, AgreeWithEvents) {
  DOVETAIL_REQUIRE_GPU();
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::inline_walk));
  for (const auto& schedule : schedules()) {
    MarkerStep body(schedule, 50'000, 80'000);
    warm_up(runner, schedule, body);
    const auto with_events = runner.capture(schedule, body, PassKind::full, GraphMode::full, true);
    const auto by_events = medians_of(runner, *with_events);
    for (const bool ends : {false, true}) {
      body.time_stamps = ends ? TimeStampUse::leave : TimeStampUse::write;
      body.end_stamps = ends ? TimeStampUse::write : TimeStampUse::leave;
      const auto with_stamps =
          runner.capture(schedule, body, PassKind::full, GraphMode::full, true);
      const auto by_stamps = medians_of(runner, *with_stamps);
      for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
        EXPECT_NEAR(by_stamps.ns[i], by_events.ns[i], by_stamps.error_ns + 5'000)
            << describe_op(static_cast<int>(i), schedule.ops[i]) << " of " << schedule.name
            << (ends ? ", ends" : ", starts");
      }
    }
  }
}

TEST(TimeStampsOfSteps, LeaveTheResultsAsTheyAre) {
  DOVETAIL_REQUIRE_GPU();
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::threads));
  for (const auto& schedule : schedules()) {
    MarkerStep body(schedule);
    body.time_stamps = TimeStampUse::write;
    warm_up(runner, schedule, body);
    std::vector<std::vector<std::uint64_t>> numbers;
    for (const bool instrumented : {false, true}) {
      const auto step =
          runner.capture(schedule, body, PassKind::full, GraphMode::full, instrumented);
      OpTimes times;
      body.reset(7);
      runner.replay(*step, instrumented ? &times : nullptr);
      EXPECT_TRUE(body.errors(7).empty()) << test::first_of(body.errors(7));
      numbers.push_back(body.numbers());
    }
    EXPECT_EQ(numbers[0], numbers[1]) << schedule.name;
  }
}

/// The twin: a kernel whose launcher took a stamp does not write it.
TEST(TimeStampsOfSteps, ThatAreNotWrittenAreAnError) {
  DOVETAIL_REQUIRE_GPU();
  auto random = test::make_random();
  const Schedule schedule = make("sequential", 1);
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::threads));
  MarkerStep body(schedule);
  warm_up(runner, schedule, body);
  OpTimes times;
  for (const bool ends : {false, true}) {
    auto& use = ends ? body.end_stamps : body.time_stamps;
    use = TimeStampUse::forget;
    const auto step = runner.capture(schedule, body, PassKind::full, GraphMode::full, true);
    test::expect_right(runner, body, *step, random, "without times");
    try {
      runner.replay(*step, &times);
      ADD_FAILURE() << "nothing was thrown";
    } catch (const RunError& error) {
      EXPECT_NE(std::string(error.what())
                    .find(std::string("its ") + (ends ? "end" : "start") + " has not been written"),
                std::string::npos)
          << error.what();
    }
    use = TimeStampUse::write;
    const auto good = runner.capture(schedule, body, PassKind::full, GraphMode::full, true);
    runner.replay(*good, &times);
    EXPECT_GT(times.end_ns.back(), 0);
    use = TimeStampUse::leave;
  }
}

}  // namespace
}  // namespace dovetail
