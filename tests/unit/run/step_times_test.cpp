// From the points of a sweep to a table of step times: settings come from what the runs have
// recorded, not from this process.
#include <gtest/gtest.h>

#include "framework/plan/step_time_setting.hpp"
#include "framework/run/sweep_step_times.hpp"
#include "tests/unit/run/fake_architecture.hpp"

namespace dovetail {
namespace {

Experiment two_policies() {
  return testing::fake_experiment(
      "workload: {requests: {count: 1, length: 8}}\n"
      "execution: {dtype: bfloat16}\n"
      "policies: [{name: sequential}, {name: dual_batch}]\n");
}

SweepPolicy row(const std::string& name, const ResolvedExecution& resolved) {
  SweepPolicy policy;
  policy.name = name;
  policy.schedule = name;
  policy.schedule_digest = "1";
  policy.ubatches = name == "sequential" ? 1 : 2;
  policy.resolved = resolved;
  policy.max_tokens = 8;
  policy.step_ns = Statistics{.count = 1, .p50 = 2e6};
  return policy;
}

ResolvedExecution on_gpu(int comm_sms) {
  return {.device = DeviceKind::cuda,
          .device_name = "NVIDIA H200",
          .dtype = DType::bfloat16,
          .exchange = "padded",
          .exchange_reason = "as configured",
          .graph = GraphMode::none,
          .comm_sms = comm_sms,
          .plain_comm_sms = comm_sms};
}

SweepPointResult complete_point(std::vector<SweepPolicy> policies) {
  SweepPointResult point;
  point.status = SweepPointStatus::complete;
  point.policies = std::move(policies);
  return point;
}

TEST(StepTimesOf, TheDeviceIsTheOneThatTheRunRecorded) {
  const auto timed = step_times_of(
      complete_point({row("sequential", on_gpu(32)), row("dual_batch", {})}), two_policies(), 4);
  ASSERT_EQ(timed.size(), 2U);
  EXPECT_EQ(timed[0].setting.at("device"), "\"NVIDIA H200\"");
  EXPECT_EQ(timed[0].setting.at("exchange"), "\"padded\"");
  EXPECT_EQ(timed[0].setting.at("world_size"), "4");
  EXPECT_EQ(timed[1].setting.at("device"), "\"cpu\"");
}

/// Policies of one sweep may give the exchange different numbers of SMs; one table holds them.
TEST(StepTimesOf, PoliciesOfDifferentCommSmsAreInOneTable) {
  const auto timed =
      step_times_of(complete_point({row("sequential", on_gpu(32)), row("dual_batch", on_gpu(8))}),
                    two_policies(),
                    2);
  const auto table = parse_step_time_table(step_time_json({timed}).dump(), "t.json");
  ASSERT_EQ(table.points.size(), 2U);
  EXPECT_EQ(table.points[0].comm_sms, 32);
  EXPECT_EQ(table.points[1].comm_sms, 8);
  EXPECT_EQ(table.setting.count("comm_sms"), 0U);
}

TEST(StepTimesOf, LeavesOutWhatDoesNotSayHowItRan) {
  auto old = row("sequential", {});
  old.resolved.reset();
  auto vetoed = row("dual_batch", {});
  vetoed.vetoed_steps = 1;
  EXPECT_TRUE(step_times_of(complete_point({old, vetoed}), two_policies(), 1).empty());
  auto unfinished = complete_point({row("sequential", {})});
  unfinished.status = SweepPointStatus::incomplete;
  EXPECT_TRUE(step_times_of(unfinished, two_policies(), 1).empty());
  EXPECT_TRUE(step_time_json({{}}).is_null());
}

}  // namespace
}  // namespace dovetail
