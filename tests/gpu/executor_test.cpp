// The CUDA executor, eagerly: orders between and within lanes, overlap, times.
#include "framework/exec/executor.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include <c10/cuda/CUDAStream.h>
#include <gtest/gtest.h>

#include "framework/base/clock.hpp"
#include "framework/plan/policy.hpp"
#include "tests/gpu/marker_step.hpp"
#include "tests/gpu/runner_options.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

using test::dual_batch;
using test::first_of;
using test::make_random;
using test::MarkerStep;
using test::own_gpu;
using test::walk_by;

TEST(CudaExecutor, EveryScheduleRunsInOrder) {
  DOVETAIL_REQUIRE_GPU();
  auto random = make_random();
  for (const HandOff hand_off : test::kHandOffs) {
    CudaStepRunner runner(own_gpu(), walk_by(hand_off));
    for (const auto& schedule : test::marker_schedules(20, random)) {
      MarkerStep body(schedule);
      for (const PassKind pass : test::kPasses) {
        for (int repeat = 0; repeat < 2; ++repeat) {
          const auto seed = random();
          body.reset(seed);
          runner.run_eager(schedule, body, pass, nullptr);
          const auto errors = body.errors(seed, pass);
          ASSERT_TRUE(errors.empty())
              << schedule.name << ", " << schedule.num_ubatches << " ubatches, "
              << to_string(hand_off) << ", " << to_string(pass) << ": " << first_of(errors);
          EXPECT_GT(runner.last_enqueue_ns(), 0);
        }
      }
    }
  }
}

/// The twin: a body that expects more than the schedule says must find ops out of order.
TEST(CudaExecutor, AMissingWaitIsNoticed) {
  DOVETAIL_REQUIRE_GPU();
  auto random = make_random();
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::inline_walk));
  const Schedule schedule = dual_batch();
  Schedule broken = schedule;
  for (auto& op : broken.ops) {
    if (op.phase == Phase::experts) {
      op.waits.clear();
    }
  }
  MarkerStep body(schedule, 2'000, 3'000'000);
  const auto seed = random();
  body.reset(seed);
  runner.run_eager(broken, body, PassKind::full, nullptr);
  EXPECT_FALSE(body.errors(seed).empty());
  body.reset(seed);
  runner.run_eager(schedule, body, PassKind::full, nullptr);
  EXPECT_TRUE(body.errors(seed).empty()) << first_of(body.errors(seed));
}

TEST(CudaExecutor, OpsSeeTheirLaneAsCurrentStream) {
  DOVETAIL_REQUIRE_GPU();
  for (const HandOff hand_off : test::kHandOffs) {
    CudaStepRunner runner(own_gpu(), walk_by(hand_off));
    ASSERT_NE(runner.compute_stream(), runner.comm_stream());
    ASSERT_NE(runner.compute_stream(), nullptr);
    const Schedule schedule = dual_batch();
    MarkerStep body(schedule);
    int num_wrong = 0;
    body.before = [&](int, const Op& op) {
      const auto current = c10::cuda::getCurrentCUDAStream();
      const cudaStream_t wanted =
          op.lane == Lane::comm ? runner.comm_stream() : runner.compute_stream();
      num_wrong += current.stream() == wanted ? 0 : 1;
    };
    runner.run_eager(schedule, body, PassKind::full, nullptr);
    EXPECT_EQ(num_wrong, 0);
  }
  int compute_priority = 0;
  int comm_priority = 0;
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::inline_walk));
  ASSERT_EQ(cudaStreamGetPriority(runner.compute_stream(), &compute_priority), cudaSuccess);
  ASSERT_EQ(cudaStreamGetPriority(runner.comm_stream(), &comm_priority), cudaSuccess);
  EXPECT_LT(comm_priority, compute_priority) << "the smaller number is the higher priority";
}

/// Both can only end if both run at once: the comm op waits for a flag that a compute op raises.
TEST(CudaExecutor, CommOverlapsCompute) {
  DOVETAIL_REQUIRE_GPU();
  const Schedule schedule = dual_batch();
  const auto pairs = test::overlapping_pairs(schedule);
  ASSERT_FALSE(pairs.empty());
  for (const HandOff hand_off : test::kHandOffs) {
    CudaStepRunner runner(own_gpu(), walk_by(hand_off));
    for (const auto& [comm, compute] : pairs) {
      MarkerStep body(schedule);
      // Loads kernels and fills the allocator's caches, which may wait for the device.
      runner.run_eager(schedule, body, PassKind::full, nullptr);
      body.awaiting_op = comm;
      body.raising_op = compute;
      body.reset(1);
      runner.run_eager(schedule, body, PassKind::full, nullptr);
      EXPECT_EQ(body.missed(), 0) << "op " << comm << " did not overlap op " << compute;
      EXPECT_TRUE(body.errors(1).empty()) << first_of(body.errors(1));
    }
  }
}

/// The twin: where the schedule orders the two, the comm op waits in vain.
TEST(CudaExecutor, OrderedOpsDoNotOverlap) {
  DOVETAIL_REQUIRE_GPU();
  const ModelShape model{std::vector<LayerShape>(2, testing::kMoe)};
  const Schedule schedule =
      policies().at("sequential").make_schedule({model, WorkPhase::prefill, 1});
  EXPECT_TRUE(test::overlapping_pairs(schedule).empty());
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::inline_walk));
  MarkerStep body(schedule);
  const auto dispatch = std::find_if(schedule.ops.begin(), schedule.ops.end(), [](const Op& op) {
    return op.phase == Phase::dispatch;
  });
  body.awaiting_op = static_cast<int>(dispatch - schedule.ops.begin());
  body.raising_op = body.awaiting_op + 1;
  body.await_ns = 20'000'000;
  body.reset(1);
  runner.run_eager(schedule, body, PassKind::full, nullptr);
  EXPECT_EQ(body.missed(), 1);
}

TEST(CudaExecutor, TimesFollowTheSchedule) {
  DOVETAIL_REQUIRE_GPU();
  constexpr std::int64_t kSpinNs = 100'000;
  for (const HandOff hand_off : test::kHandOffs) {
    CudaStepRunner runner(own_gpu(), walk_by(hand_off));
    const Schedule schedule = dual_batch();
    MarkerStep body(schedule, kSpinNs, kSpinNs);
    for (const PassKind pass : test::kPasses) {
      OpTimes times;
      const auto before = now_ns();
      runner.run_eager(schedule, body, pass, &times);
      const auto after = now_ns() - times.reading_ns;
      EXPECT_GT(times.reading_ns, 0);
      const auto error = runner.clock_alignment().error_ns;
      ASSERT_GT(error, 0);
      for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
        const Op& op = schedule.ops[i];
        const auto name = describe_op(static_cast<int>(i), op);
        if (!runs_in(pass, op.phase)) {
          EXPECT_EQ(times.start_ns[i], -1) << name;
          EXPECT_EQ(times.end_ns[i], -1) << name;
          continue;
        }
        EXPECT_GE(times.start_ns[i], before - error) << name;
        EXPECT_LE(times.end_ns[i], after + error) << name;
        EXPECT_GE(times.end_ns[i] - times.start_ns[i], kSpinNs * 9 / 10) << name;
        EXPECT_GE(times.enqueued_ns[i], before) << name;
        for (const int wait : op.waits) {
          const auto w = static_cast<std::size_t>(wait);
          if (runs_in(pass, schedule.ops[w].phase)) {
            EXPECT_GE(times.start_ns[i], times.end_ns[w] - 1'000) << name << " after op " << wait;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace dovetail
