// Ops that are held back until they are enqueued whole: their times have no gap in which the GPU
// waits for the host.

#include <chrono>
#include <cstdint>
#include <thread>

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAStream.h>
#include <gtest/gtest.h>

#include "framework/cuda/check.hpp"
#include "framework/cuda/marker_kernel.hpp"
#include "tests/gpu/capture_support.hpp"
#include "tests/gpu/marker_step.hpp"
#include "tests/gpu/runner_options.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

using test::dual_batch;
using test::MarkerStep;
using test::own_gpu;
using test::walk_by;
using test::warm_up;

constexpr auto kPass = PassKind::compute_only;

void pause(std::int64_t ns) {
  std::this_thread::sleep_for(std::chrono::nanoseconds(ns));
}

/// Every op has two kernels, and the host is late in between. It must be there: a start event alone
/// does not get to the device before the kernel behind it.
class LateHost final : public StepBody {
 public:
  static constexpr std::int64_t kGapNs = 1'000'000;  // below the bound of a gate (2 ms)

  void run(const Op&) override {
    auto* data = static_cast<std::uint64_t*>(memory_.data_ptr());
    const auto stream = c10::cuda::getCurrentCUDAStream();
    launch_marker_sum(0, data + 1, 1, data, stream);
    if (is_late) {
      pause(kGapNs);
    }
    launch_marker_sum(0, data + 1, 1, data, stream);
  }

  bool is_late = false;

 private:
  at::Tensor memory_ = at::zeros({2}, at::TensorOptions().device(at::kCUDA).dtype(at::kLong));
};

bool knows_all(const OpTimes& times, const Schedule& schedule, PassKind pass) {
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    if (runs_in(pass, schedule.ops[i].phase) && times.start_ns[i] < 0) {
      return false;
    }
  }
  return true;
}

/// Without the gate what the host is late is part of the op's time.
TEST(OpGate, TakesTheHostsGapsOutOfTheTimesOfOps) {
  DOVETAIL_REQUIRE_GPU();
  const Schedule schedule = dual_batch();
  for (const HandOff hand_off : test::kHandOffs) {
    CudaStepRunner runner(own_gpu(), walk_by(hand_off));
    LateHost body;
    for (const PassKind pass : {PassKind::full, PassKind::compute_only}) {
      body.is_late = false;
      warm_up(runner, schedule, body, pass);
      body.is_late = true;
      for (const bool gated : {false, true}) {
        OpTimes times;
        // Where the host is busy, an op may take longer to enqueue than the gate holds, and says
        // so.
        for (int attempt = 0; attempt == 0 || (attempt < 5 && !knows_all(times, schedule, pass));
             ++attempt) {
          runner.run_eager(schedule, body, pass, &times, gated);
        }
        EXPECT_TRUE(runner.last_enqueued_kernels());
        for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
          const Op& op = schedule.ops[i];
          if (!runs_in(pass, op.phase)) {
            EXPECT_EQ(times.start_ns[i], -1);
            continue;
          }
          const auto took = times.end_ns[i] - times.start_ns[i];
          const auto name = describe_op(static_cast<int>(i), op);
          if (gated && !is_exchange(op.phase)) {
            EXPECT_GE(times.start_ns[i], 0) << name << " was not held";
            EXPECT_LT(took, LateHost::kGapNs / 2) << name;
          } else {
            EXPECT_GE(took, LateHost::kGapNs / 2) << name;
          }
        }
      }
    }
  }
}

/// Twins of the bound: ops that are enqueued too slowly, or wait for the stream themselves, end all
/// the same, and their times are not taken for times without gaps.
TEST(OpGate, OpsThatItDoesNotHoldAreNotKnown) {
  DOVETAIL_REQUIRE_GPU();
  const Schedule schedule = dual_batch();
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::inline_walk));
  for (const bool synchronises : {false, true}) {
    MarkerStep body(schedule);
    warm_up(runner, schedule, body, kPass);
    int slow = -1;
    body.before = [&](int index, const Op&) {
      if (slow < 0) {
        slow = index;
        if (synchronises) {
          check_cuda(cudaStreamSynchronize(runner.compute_stream()), "an op that waits");
        } else {
          pause(20'000'000);
        }
      }
    };
    OpTimes times;
    body.reset(1);
    runner.run_eager(schedule, body, kPass, &times, /*gated=*/true);
    EXPECT_TRUE(body.errors(1, kPass).empty());
    for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
      if (runs_in(kPass, schedule.ops[i].phase)) {
        EXPECT_EQ(times.start_ns[i] < 0, static_cast<int>(i) == slow) << i;
        EXPECT_EQ(times.end_ns[i] < 0, static_cast<int>(i) == slow) << i;
      }
    }
  }
}

/// In a full graph no kernel is enqueued by the host; with pieces none of a compute op, whose times
/// the gate leaves alone.
TEST(OpGate, CapturedOpsNeedNone) {
  DOVETAIL_REQUIRE_GPU();
  const Schedule schedule = dual_batch();
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::threads));
  for (const GraphMode mode : test::kGraphModes) {
    MarkerStep body(schedule);
    warm_up(runner, schedule, body, kPass);
    const auto step = runner.capture(schedule, body, kPass, mode, true);
    OpTimes times;
    body.reset(1);
    runner.replay(*step, &times, /*gated=*/true);
    EXPECT_FALSE(runner.last_enqueued_kernels()) << to_string(mode);
    EXPECT_TRUE(body.errors(1, kPass).empty());
    for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
      EXPECT_EQ(times.start_ns[i] >= 0, runs_in(kPass, schedule.ops[i].phase)) << i;
    }
  }
}

}  // namespace
}  // namespace dovetail
