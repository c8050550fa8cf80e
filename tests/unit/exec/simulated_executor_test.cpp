// The simulated executor against hand-computed timelines, bounds, and a slow step-by-step model.
#include "framework/exec/simulated_executor.hpp"

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/exec/runner.hpp"
#include "framework/plan/policy.hpp"
#include "tests/unit/exec/recording_body.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

using testing::kDense;
using testing::kMoe;
using testing::kShared;

Schedule make(const std::string& policy,
              std::vector<LayerShape> layers,
              int num_ubatches,
              int num_groups = 1) {
  return policies().at(policy).make_schedule(
      {{std::move(layers)}, WorkPhase::prefill, num_ubatches, {}, num_groups});
}

/// Each phase a fixed time for all ubatches.
OpCost fixed(double attention,
             double route,
             double dispatch,
             double experts,
             double combine,
             double shared = 0) {
  return [=](const Op& op) -> double {
    switch (op.phase) {
      case Phase::attention:
        return attention;
      case Phase::route:
        return route;
      case Phase::dispatch:
        return dispatch;
      case Phase::experts:
        return experts;
      case Phase::combine:
        return combine;
      case Phase::shared_experts:
        return shared;
      default:
        return 0;
    }
  };
}

double sum_of(const Schedule& schedule, const OpCost& cost, PassKind pass) {
  double sum = 0;
  for (const auto& op : schedule.ops) {
    sum += runs_in(pass, op.phase) ? cost(op) : 0;
  }
  return sum;
}

TEST(Simulation, SequentialIsTheSum) {
  const Schedule schedule = make("sequential", {kMoe, kShared}, 1);
  EXPECT_EQ(simulate(schedule, fixed(10, 1, 7, 20, 5, 3), {}).total_ns, 43 + 46);
}

TEST(Simulation, SharedExpertHidesTheDispatch) {
  const Schedule schedule = make("shared_expert", {kShared}, 1);
  // attention 10, route 1, dispatch 7 beside shared experts 3, experts 20, combine 5
  EXPECT_EQ(simulate(schedule, fixed(10, 1, 7, 20, 5, 3), {}).total_ns, 10 + 1 + 7 + 20 + 5);
  EXPECT_EQ(simulate(schedule, fixed(10, 1, 7, 20, 5, 9), {}).total_ns, 10 + 1 + 9 + 20 + 5);
}

TEST(Simulation, ExpertGroupsByHand) {
  // By group: dispatch 2, experts 5, combine 3.
  const OpCost cost = fixed(10, 1, 2, 5, 3);
  const auto step = simulate(make("expert_groups", {kMoe}, 1, 4), cost, {});
  // compute: a 0-10 r 10-11 e0 13-18 e1 18-23 e2 23-28 e3 28-33; comm: d0 11-13 d1 13-15 d2 15-17
  // d3 17-19 c0 19-22 c1 23-26 c2 28-31 c3 33-36
  const std::vector<std::int64_t> starts = {
      0, 0, 10, 11, 13, 15, 17, 13, 19, 18, 23, 23, 28, 28, 33, 36};
  EXPECT_EQ(step.times.start_ns, starts);
  EXPECT_EQ(step.total_ns, 36);
  // Of the same work in one piece all of the exchange is seen.
  const auto whole = simulate(make("sequential", {kMoe}, 1), fixed(10, 1, 8, 20, 12), {});
  EXPECT_EQ(whole.total_ns, 51);
}

TEST(Simulation, DualBatchByHand) {
  const Schedule schedule = make("dual_batch", {kMoe}, 2);
  const auto step = simulate(schedule, fixed(10, 2, 8, 20, 6), {});
  // compute: a0 0-10 r0 10-12 | a1 12-22 r1 22-24 | e0 24-44 | e1 44-64; comm: d0 12-20, d1 24-32,
  // c0 44-50, c1 64-70
  const std::vector<std::pair<std::int64_t, std::int64_t>> expected = {{0, 0},
                                                                       {0, 10},
                                                                       {10, 12},
                                                                       {12, 20},
                                                                       {12, 12},
                                                                       {12, 22},
                                                                       {22, 24},
                                                                       {24, 32},
                                                                       {24, 44},
                                                                       {44, 50},
                                                                       {44, 64},
                                                                       {64, 70},
                                                                       {64, 64},
                                                                       {70, 70}};
  ASSERT_EQ(step.times.start_ns.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(step.times.start_ns[i], expected[i].first) << i;
    EXPECT_EQ(step.times.end_ns[i], expected[i].second) << i;
  }
  EXPECT_EQ(step.total_ns, 70);
}

TEST(Simulation, ContentionByHand) {
  const Schedule schedule = make("shared_expert", {kShared}, 1);
  SimulationOptions options;
  options.compute_contention = 1.5;
  // dispatch 6 and shared experts 8 begin at 0: the dispatch ends at 6, by when 4 of the 8 are
  // done; the other 4 take 4.
  auto step = simulate(schedule, fixed(0, 0, 6, 0, 0, 8), options);
  EXPECT_EQ(step.times.end_ns[3], 6);
  EXPECT_EQ(step.times.end_ns[4], 10);
  options.comm_contention = 2.0;
  // Both slow: the dispatch would end at 12, the shared experts at 12: 6 * 2 = 8 * 1.5.
  step = simulate(schedule, fixed(0, 0, 6, 0, 0, 8), options);
  EXPECT_EQ(step.times.end_ns[3], 12);
  EXPECT_EQ(step.times.end_ns[4], 12);
  // Shared experts 4 end at 6, by when 3 of the dispatch's 6 are done.
  step = simulate(schedule, fixed(0, 0, 6, 0, 0, 4), options);
  EXPECT_EQ(step.times.end_ns[4], 6);
  EXPECT_EQ(step.times.end_ns[3], 9);
  EXPECT_EQ(step.total_ns, 9);
}

TEST(Simulation, HandOffsCostTime) {
  const Schedule schedule = make("dual_batch", {kMoe}, 2);
  SimulationOptions options;
  options.hand_off_ns = 3;
  const auto step = simulate(schedule, fixed(10, 0, 0, 20, 0), options);
  EXPECT_EQ(step.total_ns, 2 * 30 + 5 * 3);
  EXPECT_EQ(step.times.hand_off_wait_ns[4], 3);
  EXPECT_EQ(step.times.enqueued_ns[4], 13);
  EXPECT_EQ(step.times.hand_off_wait_ns[5], 0);
}

TEST(Simulation, DualBatchHidesTheExchangeWhereCostsAllowIt) {
  const Schedule schedule = make("dual_batch", std::vector<LayerShape>(20, kMoe), 2);
  const auto cost = fixed(10, 0, 9, 10, 9);
  const double compute = sum_of(schedule, cost, PassKind::compute_only);
  const auto step = simulate(schedule, cost, {});
  EXPECT_EQ(step.total_ns, static_cast<std::int64_t>(compute) + 9) << "only the last combine shows";
  const Schedule sequential = make("sequential", std::vector<LayerShape>(20, kMoe), 1);
  EXPECT_EQ(simulate(sequential, fixed(20, 0, 18, 20, 18), {}).total_ns, 20 * 76);
}

TEST(Simulation, LiesBetweenTheBoundsAndPassesAreSums) {
  std::mt19937_64 random(testing::fresh_seed());
  for (int i = 0; i < 300; ++i) {
    const Schedule schedule = testing::random_schedule(random);
    std::vector<double> costs(64);
    for (auto& cost : costs) {
      cost = static_cast<double>(random() % 100);
    }
    const OpCost cost = [&costs](const Op& op) {
      return costs[static_cast<std::size_t>(op.ubatch * 8 + static_cast<int>(op.phase) % 8)];
    };
    double compute = 0;
    double comm = 0;
    for (const auto& op : schedule.ops) {
      (op.lane == Lane::compute ? compute : comm) += cost(op);
    }
    const auto total = static_cast<double>(simulate(schedule, cost, {}).total_ns);
    EXPECT_GE(total, std::max(compute, comm));
    EXPECT_LE(total, compute + comm);
    for (const PassKind pass : {PassKind::compute_only, PassKind::comm_only}) {
      EXPECT_EQ(static_cast<double>(simulate(schedule, cost, {}, pass).total_ns),
                sum_of(schedule, cost, pass));
    }
  }
}

/// A clock that ticks in small fractions and does what the contract says, with no events.
std::vector<std::int64_t> ticked_ends(const Schedule& schedule,
                                      const OpCost& cost,
                                      const SimulationOptions& options) {
  constexpr int ticks = 12;  // a factor of 1, 1.5, 2, 3 or 4 divides a ns into whole ticks
  std::vector<std::int64_t> ends(schedule.ops.size(), -1);
  std::vector<std::size_t> queue;
  std::size_t next = 0;
  std::size_t comm_at = 0;
  double compute_left = -1;  // ticks alone; -1 = not running
  double comm_left = -1;
  std::int64_t hand_off_left = 0;
  std::int64_t now = 0;
  const auto waits_done = [&](const Op& op) {
    return std::all_of(op.waits.begin(), op.waits.end(), [&](int wait) {
      return ends[static_cast<std::size_t>(wait)] >= 0;
    });
  };
  const auto advance_to = [&](std::size_t index) {
    next = index;
    if (next < schedule.ops.size() && schedule.ops[next].ubatch != schedule.ops[next - 1].ubatch) {
      hand_off_left = static_cast<std::int64_t>(options.hand_off_ns) * ticks;
    }
  };
  for (bool moved = true;; ++now) {
    for (moved = true; moved;) {  // everything that happens at this tick
      moved = false;
      if (comm_left >= 0 && comm_left < 1e-6) {
        ends[queue[comm_at++]] = now / ticks;
        comm_left = -1;
        moved = true;
      }
      if (compute_left >= 0 && compute_left < 1e-6) {
        ends[next] = now / ticks;
        compute_left = -1;
        advance_to(next + 1);
        moved = true;
      }
      if (comm_left < 0 && comm_at < queue.size()) {
        comm_left = cost(schedule.ops[queue[comm_at]]) * ticks;
        moved = true;
      }
      if (compute_left < 0 && next < schedule.ops.size() && hand_off_left == 0) {
        const Op& op = schedule.ops[next];
        if (op.lane == Lane::comm) {
          queue.push_back(next);
          advance_to(next + 1);
          moved = true;
        } else if (waits_done(op)) {
          compute_left = cost(op) * ticks;
          moved = true;
        }
      }
    }
    if (next == schedule.ops.size() && comm_left < 0) {
      return ends;
    }
    const bool both = compute_left >= 0 && comm_left >= 0;
    compute_left -= compute_left < 0 ? 0 : both ? 1 / options.compute_contention : 1;
    comm_left -= comm_left < 0 ? 0 : both ? 1 / options.comm_contention : 1;
    hand_off_left -= hand_off_left > 0 ? 1 : 0;
  }
}

TEST(Simulation, AgreesWithAClockThatTicks) {
  std::mt19937_64 random(testing::fresh_seed());
  const std::vector<double> factors = {1, 2, 4};
  for (int i = 0; i < 100; ++i) {
    const Schedule schedule = testing::random_schedule(random);
    std::vector<double> costs(64);
    for (auto& cost : costs) {
      cost = static_cast<double>(random() % 4) * 4;
    }
    const OpCost cost = [&costs](const Op& op) {
      return costs[static_cast<std::size_t>(op.ubatch * 8 + static_cast<int>(op.phase) % 8)];
    };
    const SimulationOptions options{
        factors[random() % 3], factors[random() % 3], static_cast<double>(random() % 3)};
    const auto expected = ticked_ends(schedule, cost, options);
    const auto step = simulate(schedule, cost, options);
    for (std::size_t op = 0; op < expected.size(); ++op) {
      ASSERT_NEAR(
          static_cast<double>(step.times.end_ns[op]), static_cast<double>(expected[op]), 1.0)
          << op;
    }
  }
}

TEST(Simulation, RefusesBadCostsAndFactors) {
  const Schedule schedule = make("sequential", {kMoe}, 1);
  EXPECT_THROW(simulate(schedule, fixed(-1, 0, 0, 0, 0), {}), ContractError);
  EXPECT_THROW(simulate(schedule, fixed(0, 0, 0, 0, 0), {0.5, 1, 0}), ContractError);
  EXPECT_THROW(simulate(schedule, fixed(0, 0, 0, 0, 0), {1, 1, -1}), ContractError);
}

TEST(CostTable, IsALineOverTokensByKindOfLayer) {
  CostTable table;
  table.layers = {kDense, kMoe};
  table.ubatch_tokens = {10, 0};
  const auto attention = static_cast<std::size_t>(Phase::attention);
  table.moe[attention] = {100, 2};
  table.dense[attention] = {50, 1};
  EXPECT_EQ(table({1, 0, Phase::attention, Lane::compute, {}}), 120);
  EXPECT_EQ(table({1, 1, Phase::attention, Lane::compute, {}}), 100);
  EXPECT_EQ(table({0, 0, Phase::attention, Lane::compute, {}}), 60);
  EXPECT_EQ(table({kNoLayer, 0, Phase::embed, Lane::compute, {}}), 0);
  const auto experts = static_cast<std::size_t>(Phase::experts);
  table.moe[experts] = {7, 4};
  table.num_groups = 2;
  EXPECT_EQ(table({1, 0, Phase::experts, Lane::compute, {}, 1}), 7 + 4 * 10 / 2)
      << "each group costs its start and its share";
  EXPECT_EQ(table({1, 0, Phase::experts, Lane::compute, {}}), 7 + 4 * 10);
  EXPECT_THROW(table({2, 0, Phase::attention, Lane::compute, {}}), ContractError);
  EXPECT_THROW(table({0, 2, Phase::attention, Lane::compute, {}}), ContractError);
}

TEST(SimulatedExecutor, IsDrivenByTheRunner) {
  const Schedule schedule = make("dual_batch", {kShared, kMoe}, 3);
  const auto cost = fixed(10, 2, 8, 20, 6, 4);
  SimulatedExecutor executor(cost, {1.5, 1.25, 2});
  const auto expected = simulate(schedule, cost, {1.5, 1.25, 2});
  for (const HandOff hand_off : {HandOff::threads, HandOff::inline_walk}) {
    Runner runner(executor, {hand_off, std::chrono::seconds(60)});
    testing::RecordingBody body(schedule);
    OpTimes times;
    runner.run(schedule, body, PassKind::full, &times);
    EXPECT_EQ(executor.total_ns(), expected.total_ns);
    EXPECT_EQ(times.start_ns, expected.times.start_ns);
    EXPECT_EQ(times.end_ns, expected.times.end_ns);
    EXPECT_EQ(times.enqueued_ns, expected.times.enqueued_ns);
    EXPECT_EQ(times.hand_off_wait_ns, expected.times.hand_off_wait_ns);
    EXPECT_EQ(body.compute_records().size() + body.comm_records().size(), schedule.ops.size());
    body.hook = [](const Op& op) {
      if (op.phase == Phase::combine) {
        throw RunError("injected");
      }
    };
    EXPECT_THROW(runner.run(schedule, body), OpError);
  }
}

}  // namespace
}  // namespace dovetail
