// Captured steps: the same numbers as eager steps, with changed inputs and many times over.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <gtest/gtest.h>

#include "framework/base/clock.hpp"
#include "framework/base/error.hpp"
#include "framework/exec/lane_edges.hpp"
#include "framework/plan/policy.hpp"
#include "tests/gpu/capture_support.hpp"
#include "tests/gpu/marker_step.hpp"
#include "tests/gpu/runner_options.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

using test::dual_batch;
using test::expect_right;
using test::kGraphModes;
using test::kHandOffs;
using test::make_random;
using test::MarkerStep;
using test::own_gpu;
using test::TimeStampUse;
using test::walk_by;
using test::warm_up;

TEST(Capture, ReplaysEqualEagerSteps) {
  DOVETAIL_REQUIRE_GPU();
  auto random = make_random();
  for (const HandOff hand_off : kHandOffs) {
    CudaStepRunner runner(own_gpu(), walk_by(hand_off));
    for (const auto& schedule : test::marker_schedules(10, random)) {
      MarkerStep body(schedule);
      warm_up(runner, schedule, body);
      for (const GraphMode mode : kGraphModes) {
        body.reset(1);
        const auto step = runner.capture(schedule, body, PassKind::full, mode, false);
        EXPECT_EQ(body.numbers(), std::vector<std::uint64_t>(2 * schedule.ops.size(), 0))
            << "something ran in a capture";
        EXPECT_GT(step->num_nodes(), 0);
        EXPECT_GT(step->capture_ns(), 0);
        EXPECT_GT(step->instantiate_ns(), 0);
        expect_right(runner,
                     body,
                     *step,
                     random,
                     schedule.name + ", " + std::to_string(schedule.num_ubatches) + " ubatches, " +
                         std::string(to_string(hand_off)) + ", " + std::string(to_string(mode)));
      }
    }
  }
}

TEST(Capture, PassesReplayTheirOpsOnly) {
  DOVETAIL_REQUIRE_GPU();
  auto random = make_random();
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::threads));
  const Schedule schedule = dual_batch(2, 3);
  for (const PassKind pass : test::kPasses) {
    for (const GraphMode mode : kGraphModes) {
      MarkerStep body(schedule);
      warm_up(runner, schedule, body, pass);
      const auto step = runner.capture(schedule, body, pass, mode, false);
      expect_right(runner, body, *step, random, std::string(to_string(pass)), pass);
    }
  }
}

TEST(Capture, CommOverlapsComputeInReplays) {
  DOVETAIL_REQUIRE_GPU();
  const Schedule schedule = dual_batch(1);
  const auto pairs = test::overlapping_pairs(schedule);
  ASSERT_FALSE(pairs.empty());
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::threads));
  for (const auto& [comm, compute] : pairs) {
    for (const GraphMode mode : kGraphModes) {
      MarkerStep body(schedule);
      warm_up(runner, schedule, body);
      body.awaiting_op = comm;
      body.raising_op = compute;
      const auto step = runner.capture(schedule, body, PassKind::full, mode, false);
      for (int repeat = 0; repeat < 2; ++repeat) {
        body.reset(1);
        runner.replay(*step, nullptr);
        EXPECT_EQ(body.missed(), 0)
            << "op " << comm << " did not overlap op " << compute << ", " << to_string(mode);
      }
    }
  }
}

TEST(Capture, OrderedOpsDoNotOverlapInReplays) {
  DOVETAIL_REQUIRE_GPU();
  const ModelShape model{std::vector<LayerShape>(1, testing::kMoe)};
  const Schedule schedule =
      policies().at("sequential").make_schedule({model, WorkPhase::prefill, 1});
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::threads));
  MarkerStep body(schedule);
  warm_up(runner, schedule, body);
  const auto dispatch = std::find_if(schedule.ops.begin(), schedule.ops.end(), [](const Op& op) {
    return op.phase == Phase::dispatch;
  });
  body.awaiting_op = static_cast<int>(dispatch - schedule.ops.begin());
  body.raising_op = body.awaiting_op + 1;
  body.await_ns = 20'000'000;
  const auto step = runner.capture(schedule, body, PassKind::full, GraphMode::full, false);
  body.reset(1);
  runner.replay(*step, nullptr);
  EXPECT_EQ(body.missed(), 1);
}

/// Two graphs of one pool, replayed in turn a thousand times, between them other tensors come and
/// go: the same bits, the same memory, and nobody else's memory touched.
TEST(Capture, AThousandReplaysGiveTheSameBits) {
  DOVETAIL_REQUIRE_GPU();
  const auto device = own_gpu().device;
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::threads));
  const Schedule schedules[] = {dual_batch(), dual_batch(3, 4)};
  std::vector<std::unique_ptr<MarkerStep>> bodies;
  std::vector<std::unique_ptr<CapturedStep>> steps;
  std::vector<std::vector<std::uint64_t>> wanted;
  for (std::size_t i = 0; i < 2; ++i) {
    bodies.push_back(std::make_unique<MarkerStep>(schedules[i], 500, 500));
    warm_up(runner, schedules[i], *bodies[i]);
    steps.push_back(
        runner.capture(schedules[i], *bodies[i], PassKind::full, kGraphModes[i], false));
    bodies[i]->reset(i + 1);
    runner.run_eager(schedules[i], *bodies[i], PassKind::full, nullptr);
    wanted.push_back(bodies[i]->numbers());
  }
  const auto options = at::TensorOptions().device(at::kCUDA, device).dtype(at::kLong);
  std::vector<at::Tensor> others;
  std::int64_t reserved = 0;
  for (int replay = 0; replay < 1000; ++replay) {
    if (replay % 100 == 0) {
      others.clear();
      for (int i = 0; i < 50; ++i) {
        others.push_back(at::full({MarkerStep::kScratch}, replay + i, options));
      }
    }
    const auto which = static_cast<std::size_t>(replay % 2);
    bodies[which]->reset(which + 1);
    runner.replay(*steps[which], nullptr);
    ASSERT_EQ(bodies[which]->numbers(), wanted[which]) << "replay " << replay;
    if (replay % 100 == 99) {
      for (int i = 0; i < 50; ++i) {
        const auto host = others[static_cast<std::size_t>(i)].cpu();
        const auto* data = host.const_data_ptr<std::int64_t>();
        const auto filled = std::int64_t{replay} - 99 + i;
        ASSERT_TRUE(std::all_of(
            data, data + MarkerStep::kScratch, [&](std::int64_t x) { return x == filled; }))
            << "replay " << replay << " wrote to a tensor that is not its own";
      }
      const auto now =
          c10::cuda::CUDACachingAllocator::getDeviceStats(device).reserved_bytes[0].current;
      if (reserved == 0) {
        reserved = now;
      }
      ASSERT_EQ(now, reserved) << "replay " << replay;
    }
  }
}

TEST(Capture, CapturingAgainTakesNoMoreMemory) {
  DOVETAIL_REQUIRE_GPU();
  const auto device = own_gpu().device;
  auto random = make_random();
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::threads));
  const Schedule schedule = dual_batch();
  MarkerStep body(schedule);
  warm_up(runner, schedule, body);
  std::int64_t reserved = 0;
  for (int i = 0; i < 20; ++i) {
    const auto step = runner.capture(
        schedule, body, PassKind::full, kGraphModes[static_cast<std::size_t>(i % 2)], false);
    expect_right(runner, body, *step, random, "capture " + std::to_string(i));
    const auto now =
        c10::cuda::CUDACachingAllocator::getDeviceStats(device).reserved_bytes[0].current;
    if (i == 1) {
      reserved = now;
    }
    if (i > 1) {
      EXPECT_EQ(now, reserved) << "capture " << i;
    }
  }
}

TEST(Capture, InstrumentedGraphsGiveTimes) {
  DOVETAIL_REQUIRE_GPU();
  constexpr std::int64_t kSpinNs = 100'000;
  auto random = make_random();
  for (const HandOff hand_off : kHandOffs) {
    CudaStepRunner runner(own_gpu(), walk_by(hand_off));
    const Schedule schedule = dual_batch();
    LaneEdges edges;
    find_lane_edges(schedule, PassKind::full, edges);
    for (const auto& [mode, time_stamps] : {std::pair{GraphMode::full, TimeStampUse::leave},
                                            {GraphMode::full, TimeStampUse::write},
                                            {GraphMode::piecewise, TimeStampUse::write}}) {
      MarkerStep body(schedule, kSpinNs, kSpinNs);
      body.time_stamps = time_stamps;
      warm_up(runner, schedule, body);
      const auto step = runner.capture(schedule, body, PassKind::full, mode, true);
      expect_right(runner, body, *step, random, "instrumented");
      for (int repeat = 0; repeat < 2; ++repeat) {
        OpTimes times;
        const auto before = now_ns();
        runner.replay(*step, &times);
        const auto after = now_ns() - times.reading_ns;
        const auto error = runner.clock_alignment().error_ns;
        EXPECT_GT(times.reading_ns, 0);
        for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
          const Op& op = schedule.ops[i];
          const auto name =
              describe_op(static_cast<int>(i), op) + ", " + std::string(to_string(mode));
          EXPECT_GE(times.start_ns[i], before - error) << name;
          EXPECT_LE(times.end_ns[i], after + error) << name;
          EXPECT_GE(times.end_ns[i] - times.start_ns[i], kSpinNs * 9 / 10) << name;
          for (const int wait : op.waits) {
            EXPECT_GE(times.start_ns[i], times.end_ns[static_cast<std::size_t>(wait)] - 1'000)
                << name << " after op " << wait;
          }
          std::int64_t met_ns = -1;  // when its lane has come to it and its wait is met
          for (const int other : {edges.before[i], edges.wait_for[i]}) {
            if (other >= 0) {
              met_ns = std::max(met_ns, times.end_ns[static_cast<std::size_t>(other)]);
            }
          }
          if (mode == GraphMode::full && met_ns >= 0) {
            EXPECT_EQ(times.start_ns[i], met_ns) << name << " has a time stamp that it needs not";
          }
        }
      }
      const auto plain = runner.capture(schedule, body, PassKind::full, mode, false);
      OpTimes times;
      EXPECT_THROW(runner.replay(*plain, &times), ContractError);
    }
  }
}

}  // namespace
}  // namespace dovetail
