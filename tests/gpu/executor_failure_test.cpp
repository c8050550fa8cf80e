// The CUDA executor when an op fails or hangs: the op is named, and the next step works.
#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
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

int first_comm_op(const Schedule& schedule) {
  const auto found = std::find_if(
      schedule.ops.begin(), schedule.ops.end(), [](const Op& op) { return op.lane == Lane::comm; });
  return static_cast<int>(found - schedule.ops.begin());
}

TEST(CudaExecutor, AFailingOpIsNamedAndTheNextStepWorks) {
  DOVETAIL_REQUIRE_GPU();
  auto random = make_random();
  const Schedule schedule = dual_batch(2, 3);
  for (const HandOff hand_off : test::kHandOffs) {
    CudaStepRunner runner(own_gpu(), walk_by(hand_off));
    for (const int failing :
         {0, first_comm_op(schedule), 10, 17, static_cast<int>(schedule.ops.size()) - 1}) {
      const Op& wanted = schedule.ops[static_cast<std::size_t>(failing)];
      MarkerStep body(schedule);
      body.before = [&](int index, const Op&) {
        if (index == failing) {
          throw std::runtime_error("on purpose");
        }
      };
      try {
        runner.run_eager(schedule, body, PassKind::full, nullptr);
        ADD_FAILURE() << "op " << failing << " did not fail";
      } catch (const OpError& error) {
        EXPECT_EQ(error.place().ubatch, wanted.ubatch);
        EXPECT_EQ(error.place().layer, wanted.layer);
        EXPECT_EQ(error.place().phase, to_string(wanted.phase));
        EXPECT_EQ(error.detail(), "on purpose");
      }
      body.before = {};
      const auto seed = random();
      body.reset(seed);
      runner.run_eager(schedule, body, PassKind::full, nullptr);
      EXPECT_TRUE(body.errors(seed).empty()) << first_of(body.errors(seed));
    }
  }
}

/// An exchange that hangs until it is cancelled, as one whose peer is gone, on either lane.
TEST(CudaExecutor, AHangingOpTimesOutIsNamedAndCancelled) {
  DOVETAIL_REQUIRE_GPU();
  const ModelShape model{std::vector<LayerShape>(2, testing::kMoe)};
  for (const auto& schedule :
       {dual_batch(), policies().at("sequential").make_schedule({model, WorkPhase::prefill, 1})}) {
    MarkerStep body(schedule);
    int num_cancelled = 0;
    auto options = own_gpu(std::chrono::milliseconds(300));
    options.cancel_comm = [&] {
      ++num_cancelled;
      body.raise_flag();
    };
    CudaStepRunner runner(options, walk_by(HandOff::threads));
    runner.run_eager(schedule, body, PassKind::full, nullptr);  // loads kernels
    const auto hanging = std::find_if(schedule.ops.begin(), schedule.ops.end(), [](const Op& op) {
      return op.phase == Phase::combine;
    });
    body.awaiting_op = static_cast<int>(hanging - schedule.ops.begin());
    body.await_ns = 15'000'000'000;
    body.reset(1);
    try {
      runner.run_eager(schedule, body, PassKind::full, nullptr);
      ADD_FAILURE() << "no time-out";
    } catch (const TimeoutError& error) {
      const std::string text = error.what();
      const auto name = "the end of " + describe_op(body.awaiting_op, *hanging);
      EXPECT_NE(text.find(name), std::string::npos) << text;
    }
    EXPECT_EQ(num_cancelled, 1);
    EXPECT_EQ(body.missed(), 0) << "the flag was raised by cancel_comm";
    body.awaiting_op = -1;
    body.reset(2);
    runner.run_eager(schedule, body, PassKind::full, nullptr);
    EXPECT_TRUE(body.errors(2).empty()) << first_of(body.errors(2));
    EXPECT_EQ(num_cancelled, 1);
  }
}

/// With a communicator goes the memory that own kernels use.
TEST(CudaExecutor, OwnKernelsEndBeforeCommunicatorsGo) {
  DOVETAIL_REQUIRE_GPU();
  const Schedule schedule = dual_batch();
  MarkerStep body(schedule);
  cudaStream_t lane = nullptr;
  std::vector<std::string> calls;
  auto options = own_gpu(std::chrono::milliseconds(300));
  options.end_own_waits = [&] {
    calls.emplace_back(cudaStreamQuery(lane) == cudaErrorNotReady ? "end waits" : "idle too soon");
    static_cast<void>(cudaGetLastError());
    body.raise_flag();
    return true;
  };
  options.cancel_comm = [&] {
    calls.emplace_back(cudaStreamQuery(lane) == cudaSuccess ? "cancel" : "cancel while busy");
  };
  CudaStepRunner runner(options, walk_by(HandOff::inline_walk));
  lane = runner.compute_stream();
  runner.run_eager(schedule, body, PassKind::full, nullptr);  // loads kernels
  body.awaiting_op = first_comm_op(schedule);
  body.await_ns = 15'000'000'000;
  body.reset(1);
  EXPECT_THROW(runner.run_eager(schedule, body, PassKind::full, nullptr), TimeoutError);
  EXPECT_EQ(calls, (std::vector<std::string>{"end waits", "cancel"}));
  EXPECT_EQ(body.missed(), 0);
}

TEST(CudaExecutor, OnPollEndsAWait) {
  DOVETAIL_REQUIRE_GPU();
  const Schedule schedule = dual_batch();
  MarkerStep body(schedule);
  body.awaiting_op = first_comm_op(schedule);
  body.await_ns = 15'000'000'000;
  bool peer_failed = true;
  auto options = own_gpu();
  options.cancel_comm = [&] { body.raise_flag(); };
  options.on_poll = [&] {
    if (peer_failed) {
      throw RunError("rank 7 failed");
    }
  };
  peer_failed = false;
  CudaStepRunner runner(options, walk_by(HandOff::inline_walk));
  const int hanging = std::exchange(body.awaiting_op, -1);
  runner.run_eager(schedule, body, PassKind::full, nullptr);  // loads kernels
  body.awaiting_op = hanging;
  peer_failed = true;
  body.reset(1);
  try {
    runner.run_eager(schedule, body, PassKind::full, nullptr);
    ADD_FAILURE() << "the wait went on";
  } catch (const RunError& error) {
    EXPECT_STREQ(error.what(), "rank 7 failed");
  }
  peer_failed = false;
  body.awaiting_op = -1;
  body.reset(2);
  runner.run_eager(schedule, body, PassKind::full, nullptr);
  EXPECT_TRUE(body.errors(2).empty()) << first_of(body.errors(2));
}

}  // namespace
}  // namespace dovetail
