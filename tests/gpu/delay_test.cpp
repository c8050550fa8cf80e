// A delay at the head of an op is part of the op's time, eagerly and in each replay of a graph.

#include <chrono>
#include <cstdint>
#include <string>

#include <c10/cuda/CUDAStream.h>
#include <gtest/gtest.h>

#include "framework/cuda/delay_kernel.hpp"
#include "tests/gpu/capture_support.hpp"
#include "tests/gpu/marker_step.hpp"
#include "tests/gpu/runner_options.hpp"

namespace dovetail {
namespace {

using test::dual_batch;
using test::MarkerStep;
using test::own_gpu;
using test::walk_by;
using test::warm_up;

constexpr std::chrono::nanoseconds kDelay = std::chrono::milliseconds(3);
constexpr std::int64_t kResolutionNs = 5'000;  ///< of the times of ops

int index_of(const Schedule& schedule, Phase phase) {
  for (int i = 0; i < static_cast<int>(schedule.ops.size()); ++i) {
    const Op& op = schedule.ops[static_cast<std::size_t>(i)];
    if (op.phase == phase && op.layer == 1 && op.ubatch == 1) {
      return i;
    }
  }
  return -1;
}

std::int64_t time_of(const OpTimes& times, int index) {
  const auto i = static_cast<std::size_t>(index);
  return times.end_ns[i] - times.start_ns[i];
}

/// `others_are_short`: where no host can be late between two ops.
void expect_late(const Schedule& schedule,
                 PassKind pass,
                 int late,
                 const OpTimes& times,
                 bool others_are_short) {
  for (int i = 0; i < static_cast<int>(schedule.ops.size()); ++i) {
    if (!runs_in(pass, schedule.ops[static_cast<std::size_t>(i)].phase)) {
      continue;
    }
    if (i == late) {
      EXPECT_GE(time_of(times, i), kDelay.count() - kResolutionNs);
    } else if (others_are_short) {
      EXPECT_LT(time_of(times, i), kDelay.count() / 2) << i;
    }
  }
}

TEST(Delay, IsPartOfItsOpEagerlyAndInEachReplay) {
  DOVETAIL_REQUIRE_GPU();
  const Schedule schedule = dual_batch();
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::threads));
  for (const Phase phase : {Phase::experts, Phase::dispatch}) {
    const int late = index_of(schedule, phase);
    MarkerStep body(schedule);
    body.before = [&](int index, const Op&) {
      if (index == late) {
        launch_delay(kDelay, c10::cuda::getCurrentCUDAStream());
      }
    };
    for (const PassKind pass : test::kPasses) {
      SCOPED_TRACE(std::string(to_string(phase)) + ", " + std::string(to_string(pass)));
      body.reset(1);
      warm_up(runner, schedule, body, pass);
      OpTimes times;
      runner.run_eager(schedule, body, pass, &times);
      expect_late(schedule, pass, late, times, false);
      for (const GraphMode mode : test::kGraphModes) {
        const auto step = runner.capture(schedule, body, pass, mode, /*instrumented=*/true);
        for (int replay = 0; replay < 2; ++replay) {
          runner.replay(*step, &times);
          expect_late(schedule, pass, late, times, mode == GraphMode::full);
        }
      }
    }
  }
}

}  // namespace
}  // namespace dovetail
