// Captures and replays that fail: nothing is left behind, and a capture works again.
#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include <c10/cuda/CUDAStream.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/stream_capture.hpp"
#include "tests/gpu/capture_support.hpp"
#include "tests/gpu/marker_step.hpp"
#include "tests/gpu/runner_options.hpp"

namespace dovetail {
namespace {

using test::dual_batch;
using test::expect_right;
using test::kGraphModes;
using test::kHandOffs;
using test::make_random;
using test::MarkerStep;
using test::own_gpu;
using test::walk_by;
using test::warm_up;

/// What goes wrong at an op while it is captured.
struct Mishap {
  const char* name;
  void (*act)(cudaStream_t stream);
};

const Mishap kMishaps[] = {
    {"an exception", [](cudaStream_t) { throw std::runtime_error("on purpose"); }},
    {"a wait for the device that is noticed",
     [](cudaStream_t stream) { check_cuda(cudaStreamSynchronize(stream), "synchronize"); }},
    {"a wait for the device that is overlooked",
     [](cudaStream_t stream) { static_cast<void>(cudaStreamSynchronize(stream)); }},
};

TEST(Capture, AFailureInTheMiddleLeavesNothingBehind) {
  DOVETAIL_REQUIRE_GPU();
  auto random = make_random();
  const Schedule schedule = dual_batch(2, 3);
  const int num_ops = static_cast<int>(schedule.ops.size());
  for (const HandOff hand_off : kHandOffs) {
    CudaStepRunner runner(own_gpu(), walk_by(hand_off));
    MarkerStep body(schedule);
    warm_up(runner, schedule, body);
    for (const GraphMode mode : kGraphModes) {
      for (int failing = 0; failing < num_ops; failing += 3) {
        const Op& op = schedule.ops[static_cast<std::size_t>(failing)];
        if (mode == GraphMode::piecewise && is_exchange(op.phase)) {
          continue;
        }
        for (const Mishap& mishap : kMishaps) {
          const auto what = std::string(mishap.name) + " in " + describe_op(failing, op) + ", " +
                            std::string(to_string(hand_off)) + ", " + std::string(to_string(mode));
          body.before = [&](int index, const Op&) {
            if (index == failing) {
              mishap.act(c10::cuda::getCurrentCUDAStream());
            }
          };
          EXPECT_THROW(
              static_cast<void>(runner.capture(schedule, body, PassKind::full, mode, false)),
              RunError)
              << what;
          body.before = {};
          ASSERT_FALSE(is_capturing(runner.compute_stream())) << what;
          ASSERT_FALSE(is_capturing(runner.comm_stream())) << what;
          ASSERT_EQ(cudaPeekAtLastError(), cudaSuccess) << what;
        }
        const auto step = runner.capture(schedule, body, PassKind::full, mode, false);
        expect_right(runner, body, *step, random, "after " + describe_op(failing, op));
      }
    }
  }
}

TEST(Capture, AnExceptionNamesItsOp) {
  DOVETAIL_REQUIRE_GPU();
  const Schedule schedule = dual_batch();
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::threads));
  MarkerStep body(schedule);
  warm_up(runner, schedule, body);
  for (const GraphMode mode : kGraphModes) {
    body.before = [&](int, const Op& op) {
      if (op.phase == Phase::experts && op.layer == 1 && op.ubatch == 1) {
        throw std::runtime_error("on purpose");
      }
    };
    try {
      static_cast<void>(runner.capture(schedule, body, PassKind::full, mode, false));
      ADD_FAILURE() << "nothing was thrown";
    } catch (const OpError& error) {
      EXPECT_EQ(error.place().ubatch, 1);
      EXPECT_EQ(error.place().layer, 1);
      EXPECT_EQ(error.place().phase, "experts");
    }
  }
}

/// Without an eager step before there are no threads and handles; the capture is refused, not
/// wrong.
TEST(Capture, WithoutWarmUpIsRefused) {
  DOVETAIL_REQUIRE_GPU();
  auto random = make_random();
  const Schedule schedule = dual_batch();
  for (const HandOff hand_off : kHandOffs) {
    CudaStepRunner runner(own_gpu(), walk_by(hand_off));
    MarkerStep body(schedule);
    EXPECT_THROW(
        static_cast<void>(runner.capture(schedule, body, PassKind::full, GraphMode::full, false)),
        ContractError);
    warm_up(runner, schedule, body);
    const auto step = runner.capture(schedule, body, PassKind::full, GraphMode::full, false);
    expect_right(runner, body, *step, random, "after a refused capture");
    EXPECT_THROW(
        static_cast<void>(runner.capture(schedule, body, PassKind::full, GraphMode::none, false)),
        ContractError);
  }
}

TEST(Capture, AHangingReplayTimesOutAndIsCancelled) {
  DOVETAIL_REQUIRE_GPU();
  auto random = make_random();
  const Schedule schedule = dual_batch();
  MarkerStep body(schedule);
  int num_cancelled = 0;
  auto options = own_gpu(std::chrono::milliseconds(300));
  options.cancel_comm = [&] {
    ++num_cancelled;
    body.raise_flag();
  };
  CudaStepRunner runner(options, walk_by(HandOff::threads));
  warm_up(runner, schedule, body);
  for (const GraphMode mode : kGraphModes) {
    const auto good = runner.capture(schedule, body, PassKind::full, mode, false);
    body.awaiting_op = test::overlapping_pairs(schedule).front().first;
    body.await_ns = 15'000'000'000;
    const auto hanging = runner.capture(schedule, body, PassKind::full, mode, false);
    body.reset(1);
    num_cancelled = 0;
    EXPECT_THROW(runner.replay(*hanging, nullptr), TimeoutError) << to_string(mode);
    EXPECT_EQ(num_cancelled, 1);
    EXPECT_EQ(body.missed(), 0) << "the flag was raised by cancel_comm";
    body.awaiting_op = -1;
    expect_right(runner, body, *good, random, "after a time-out");
  }
}

}  // namespace
}  // namespace dovetail
