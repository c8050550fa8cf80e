// Faults of buffers and of waits: which ops they change, and what these then read.
#include <limits>
#include <optional>
#include <vector>

#include <ATen/ops/full.h>
#include <ATen/ops/isnan.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/plan/policy.hpp"
#include "tests/unit/step/planted_fault.hpp"

namespace dovetail {
namespace {

/// Buffers of rows that can be written as a wire would.
class Buffers final : public Exchange, private ExchangePlans, private HostBuffers {
 public:
  void prepare(int, const RoutedTokens&) override {}

  void dispatch(int, int) override {}

  ExpertRows arrange(int, int) override { return {}; }

  void reduce(int, int, const at::Tensor&) override {}

  void combine(int, int) override {}

  at::Tensor finish(int) override { return {}; }

  ExchangePlans& plans() override { return *this; }

  TrafficMeter& meter() override { return meter_; }

  StepBuffers& buffers() override { return *this; }

  std::vector<at::Tensor> dispatched = {at::zeros({0, 2}), at::zeros({0, 2})};  // of each ubatch
  std::vector<at::Tensor> combined = {at::zeros({3, 2}), at::zeros({3, 2})};

 private:
  std::shared_ptr<ExchangePlan> plan(int) override { return nullptr; }

  void prepare_again(int, const RoutedTokens&, std::shared_ptr<ExchangePlan>) override {}

  void adopt(int, std::shared_ptr<ExchangePlan>) override {}

  std::int64_t bytes() const override { return 0; }

  std::vector<at::Tensor> received_rows(int ubatch,
                                        Phase phase,
                                        std::optional<int> /*group*/) override {
    return {
        (phase == Phase::dispatch ? dispatched : combined).at(static_cast<std::size_t>(ubatch))};
  }

  TrafficMeter meter_;
};

/// A peer may write what it sends as soon as the layer before has used the buffer.
TEST(DataFault, KeepsWhatTheLayerBeforeReceived) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  for (const bool is_active : {true, false}) {
    Buffers exchange;
    Planted planted(config(FaultKind::stale_buffer, "dispatch"), is_active);
    const auto receive = [&](int layer, Phase phase, int rows, float value) {
      if (rows > exchange.dispatched[0].size(0)) {
        exchange.dispatched[0] = at::zeros({rows, 2});
      }
      exchange.dispatched[0].narrow(0, 0, rows).fill_(value);
      planted.data().change_received({layer, 0, phase, Lane::comm, {}}, exchange);
      return exchange.dispatched[0].flatten().clone();
    };
    receive(0, Phase::combine, 3, nan);  // another buffer's
    EXPECT_TRUE(receive(1, Phase::dispatch, 3, 1).equal(at::full({6}, is_active ? 0 : 1.F)))
        << "of the first layer";
    receive(0, Phase::dispatch, 3, 2);
    receive(0, Phase::dispatch, 2, 3);
    const at::Tensor seen = receive(1, Phase::dispatch, 3, 4);
    const at::Tensor stale = at::tensor(std::vector<float>{3, 3, 3, 3, 2, 2});
    EXPECT_TRUE(seen.equal(is_active ? stale : at::full({6}, 4.F))) << seen;
    EXPECT_TRUE(receive(2, Phase::dispatch, 3, 5).equal(at::full({6}, 5.F)));
    EXPECT_EQ(planted.data().has_acted(), is_active);
  }
}

Schedule dual_batch(int layers = 3) {
  return policies()
      .at("dual_batch")
      .make_schedule({{std::vector<LayerShape>(static_cast<std::size_t>(layers), {true, true})},
                      WorkPhase::prefill,
                      2});
}

int find_op(const Schedule& schedule, int layer, int ubatch, Phase phase) {
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    const Op& op = schedule.ops[i];
    if (op.layer == layer && op.ubatch == ubatch && op.phase == phase) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

TEST(DataFault, OverwritesWhatHasNotBeenReadYet) {
  const Schedule schedule = dual_batch();
  for (const bool is_active : {true, false}) {
    Buffers exchange;
    exchange.combined = {at::full({3, 2}, 1, at::kFloat), at::full({2, 2}, 2, at::kFloat)};
    Planted planted(config(FaultKind::early_reuse, "combine"), is_active);
    LaneEdges edges;
    find_lane_edges(schedule, PassKind::full, edges);
    planted.data().change_edges(schedule, PassKind::full, edges);
    const auto run = [&](int layer, int ubatch) {
      planted.data().reuse_received({layer, ubatch, Phase::combine, Lane::comm, {}}, exchange);
    };
    run(0, 1);
    run(1, 0);
    EXPECT_TRUE(exchange.combined[0].equal(at::full({3, 2}, 1, at::kFloat)));
    EXPECT_FALSE(planted.data().has_acted());
    run(1, 1);  // the later use
    const float expected = is_active ? 2 : 1;
    EXPECT_TRUE(exchange.combined[0].equal(
        at::tensor(std::vector<float>{expected, expected, expected, expected, 1, 1}).view({3, 2})));
    EXPECT_EQ(planted.data().has_acted(), is_active);
  }
}

TEST(DataFault, FindsTheOpsOfAFaultOfWaits) {
  const Schedule schedule = dual_batch();
  const auto reuse = find_lane_fault(config(FaultKind::early_reuse, "dispatch"), schedule);
  ASSERT_TRUE(reuse);
  EXPECT_EQ(reuse->reader, find_op(schedule, 1, 0, Phase::experts));
  EXPECT_EQ(reuse->other, find_op(schedule, 1, 1, Phase::dispatch));
  const auto skip = find_lane_fault(config(FaultKind::skipped_wait, "experts"), schedule);
  ASSERT_TRUE(skip);
  EXPECT_EQ(skip->reader, find_op(schedule, 1, 0, Phase::experts));
  EXPECT_EQ(skip->other, find_op(schedule, 1, 0, Phase::dispatch));
  // Not there, without a wait, without another ubatch, with all on one lane.
  auto beyond = config(FaultKind::skipped_wait, "experts");
  beyond.layer = 3;
  EXPECT_FALSE(find_lane_fault(beyond, schedule));
  EXPECT_FALSE(find_lane_fault(config(FaultKind::skipped_wait, "route"), schedule));
  const Schedule sequential =
      policies()
          .at("sequential")
          .make_schedule({{std::vector<LayerShape>(3, {true, true})}, WorkPhase::prefill, 1});
  for (const auto& phase : {"dispatch", "combine", "experts", "attention"}) {
    EXPECT_FALSE(find_lane_fault(config(FaultKind::skipped_wait, phase), sequential)) << phase;
    EXPECT_FALSE(find_lane_fault(config(FaultKind::early_reuse, phase), sequential)) << phase;
  }
}

/// Rows of a group are read by the experts of that group, and by no others.
TEST(DataFault, FindsTheOpsOfItsGroup) {
  const Schedule schedule = policies()
                                .at("expert_groups")
                                .make_schedule({.model = {std::vector<LayerShape>(3, {true, true})},
                                                .num_ubatches = 2,
                                                .num_groups = 2});
  for (int group = 0; group < 2; ++group) {
    auto fault = config(FaultKind::early_reuse, "dispatch");
    fault.group = group;
    const auto reuse = find_lane_fault(fault, schedule);
    ASSERT_TRUE(reuse);
    const auto& reader = schedule.ops[static_cast<std::size_t>(reuse->reader)];
    EXPECT_EQ(describe_op(0, reader),
              "op 0 (experts, layer 1, ubatch 0, group " + std::to_string(group) + ")");
    const auto& other = schedule.ops[static_cast<std::size_t>(reuse->other)];
    EXPECT_EQ(describe_op(0, other), "op 0 (dispatch, layer 1, ubatch 1, group 0)");
    fault = config(FaultKind::skipped_wait, "experts");
    fault.group = group;
    const auto skip = find_lane_fault(fault, schedule);
    ASSERT_TRUE(skip);
    EXPECT_EQ(skip->reader, reuse->reader);
    const auto& awaited = schedule.ops[static_cast<std::size_t>(skip->other)];
    EXPECT_EQ(describe_op(0, awaited),
              "op 0 (dispatch, layer 1, ubatch 0, group " + std::to_string(group) + ")");
  }
}

TEST(DataFault, ChangesTheEdgesOfItsOpsOnly) {
  const Schedule schedule = dual_batch();
  LaneEdges right;
  find_lane_edges(schedule, PassKind::full, right);
  const auto reader = static_cast<std::size_t>(find_op(schedule, 1, 0, Phase::experts));
  const int later = find_op(schedule, 1, 1, Phase::dispatch);
  for (const bool skips : {true, false}) {
    const auto fault = skips ? config(FaultKind::skipped_wait, "experts")
                             : config(FaultKind::early_reuse, "dispatch");
    Planted planted(fault);
    auto edges = right;
    planted.data().change_edges(schedule, PassKind::full, edges);
    EXPECT_EQ(edges.wait_for[reader], skips ? -1 : later);
    EXPECT_TRUE(skips || edges.records[static_cast<std::size_t>(later)] == 1);
    edges.wait_for[reader] = right.wait_for[reader];
    EXPECT_EQ(edges.wait_for, right.wait_for);
    EXPECT_EQ(planted.data().has_acted(), skips);
    edges = right;
    planted.data().change_edges(schedule, PassKind::comm_only, edges);
    EXPECT_EQ(edges.wait_for, right.wait_for);
  }
  // In another iteration nothing is skipped, but in a capture, which is for all of them.
  Planted other(config(FaultKind::skipped_wait, "experts"), false);
  auto edges = right;
  other.data().change_edges(schedule, PassKind::full, edges);
  EXPECT_EQ(edges.wait_for, right.wait_for);
  EXPECT_FALSE(other.data().has_acted());
  other.fault.set_capturing(true);
  other.data().change_edges(schedule, PassKind::full, edges);
  EXPECT_EQ(edges.wait_for[reader], -1);
  EXPECT_TRUE(other.data().has_acted());
}

}  // namespace
}  // namespace dovetail
