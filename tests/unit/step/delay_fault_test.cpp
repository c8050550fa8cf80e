// A delay: of its op alone, in every step, whatever the iteration; on a device by what the driver
// has set.
#include <chrono>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/plan/policy.hpp"
#include "framework/step/fault.hpp"
#include "tests/unit/step/planted_fault.hpp"

namespace dovetail {
namespace {

using std::chrono::nanoseconds;
using std::chrono::steady_clock;

FaultConfig delay_at(int ubatch, Phase phase, int delay_us) {
  return {.kind = FaultKind::delay,
          .rank = 0,
          .ubatch = ubatch,
          .layer = 1,
          .phase = std::string(to_string(phase)),
          .policy = "late",
          .delay_us = delay_us};
}

Schedule schedule_of(const std::string& policy, int num_ubatches) {
  return policies().at(policy).make_schedule(
      {.model = {std::vector<LayerShape>(2, {true, true})}, .num_ubatches = num_ubatches});
}

TEST(DelayFault, ItsOpAloneIsKeptBackInEveryStep) {
  const Schedule schedule = schedule_of("dual_batch", 2);
  for (const Phase phase : {Phase::attention, Phase::dispatch, Phase::experts}) {
    for (const int rank : {0, 1}) {
      InjectedFault fault(delay_at(1, phase, 250), Rank(rank), at::kCPU);
      std::vector<nanoseconds> delays;
      fault.set_delay([&](nanoseconds time) { delays.push_back(time); });
      std::vector<Op> late;
      const std::vector<int> iterations = {0, 0, 1, 7, InjectedFault::kNever};
      for (const int iteration : iterations) {
        fault.set_iteration(iteration);
        for (const Op& op : schedule.ops) {
          fault.before(op);
          EXPECT_EQ(delays.size(), late.size()) << "where a graph is launched";
          fault.delay(op);
          late.resize(delays.size(), op);
        }
      }
      ASSERT_EQ(late.size(), rank == 0 ? iterations.size() : 0);
      for (std::size_t i = 0; i < late.size(); ++i) {
        EXPECT_EQ(delays[i], std::chrono::microseconds(250));
        EXPECT_EQ(late[i].phase, phase);
        EXPECT_EQ(late[i].ubatch, 1);
        EXPECT_EQ(late[i].layer, 1);
      }
    }
  }
}

TEST(DelayFault, OnTheCpuItsThreadComputesForAsLong) {
  const InjectedFault fault(delay_at(0, Phase::experts, 3000), Rank(0), at::kCPU);
  const auto start = steady_clock::now();
  fault.delay({1, 0, Phase::experts, Lane::compute, {}});
  EXPECT_GE(steady_clock::now() - start, std::chrono::microseconds(3000));
}

TEST(DelayFault, OtherKindsKeepNothingBack) {
  for (const auto kind : {FaultKind::hang, FaultKind::slow, FaultKind::flipped_element}) {
    InjectedFault fault(config(kind, "combine"), Rank(0), at::kCPU);
    fault.set_delay([](nanoseconds) { FAIL(); });
    fault.set_iteration(3);
    fault.delay({1, 0, Phase::combine, Lane::comm, {}});
    EXPECT_NO_THROW(fault.check_step({}));
  }
}

TEST(DelayFault, IsOfNoStepThatFillsTheContexts) {
  EXPECT_FALSE(
      InjectedFault(delay_at(0, Phase::experts, 1), Rank(0), at::kCPU).may_be_in_contexts());
  EXPECT_FALSE(InjectedFault(config(FaultKind::stale_kv, "attention"), Rank(1), at::kCPU)
                   .may_be_in_contexts());
  EXPECT_TRUE(
      InjectedFault(config(FaultKind::hang, "attention"), Rank(0), at::kCPU).may_be_in_contexts());
}

/// A step without ubatches in a policy that has them: some steps would be longer, others not.
TEST(DelayFault, EveryStepMustHaveItsOp) {
  const Schedule plain = schedule_of("sequential", 1);
  const InjectedFault of_second(delay_at(1, Phase::experts, 1), Rank(0), at::kCPU);
  EXPECT_NO_THROW(of_second.check_step(schedule_of("dual_batch", 2)));
  EXPECT_THROW(of_second.check_step(plain), RunError);
  EXPECT_NO_THROW(
      InjectedFault(delay_at(0, Phase::experts, 1), Rank(0), at::kCPU).check_step(plain));
  EXPECT_NO_THROW(
      InjectedFault(delay_at(1, Phase::experts, 1), Rank(1), at::kCPU).check_step(plain));
}

}  // namespace
}  // namespace dovetail
