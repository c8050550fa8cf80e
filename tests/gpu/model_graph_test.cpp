// The captured graph of a real step: it computes what an eager step does, its nodes have the orders
// of the schedule and no others, and a capture that fails on one rank leaves all ranks well.
#include <cstdio>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/cuda/stream_capture.hpp"
#include "tests/gpu/gpu_test.hpp"
#include "tests/gpu/graph_orders.hpp"
#include "tests/gpu/model_graph_checks.hpp"

namespace dovetail::test {
namespace {

TEST_P(ModelGraph, ReplaysAreEagerStepsToTheBit) {
  DOVETAIL_REQUIRE_GPU();
  ModelGraphCase made(GetParam());
  const auto eager = warm_up(made);
  const auto step = capture_on_all_ranks(made);
  ASSERT_NE(step, nullptr);
  expect_replays(made, *step, eager);
  // An eager step between replays leaves the graph as it is.
  expect_same(made.run_eager(1), eager[1], "eager after replays");
  expect_replays(made, *step, eager);
}

/// Exchanges beside which the schedule lets an op run that is no exchange: indices of ops.
std::vector<std::size_t> overlapped_exchanges(const Schedule& schedule) {
  const auto orders = schedule_orders(schedule);
  std::vector<std::size_t> found;
  const auto num_ops = static_cast<int>(schedule.ops.size());
  for (int i = 0; i < num_ops; ++i) {
    bool has_company = false;
    for (int j = 0; j < num_ops && is_exchange(schedule.ops[static_cast<std::size_t>(i)].phase);
         ++j) {
      has_company =
          has_company || (i != j && !is_exchange(schedule.ops[static_cast<std::size_t>(j)].phase) &&
                          !orders.reaches(i, j) && !orders.reaches(j, i));
    }
    if (has_company) {
      found.push_back(static_cast<std::size_t>(i));
    }
  }
  return found;
}

/// Transfers and computation are free of each other in the graph where the schedule lets them be;
/// a check against the same ops without a comm lane must fail.
void expect_overlap(const Schedule& schedule, const StepKernels& kernels) {
  const auto overlapped = overlapped_exchanges(schedule);
  ASSERT_FALSE(overlapped.empty());
  for (const auto op : overlapped) {
    EXPECT_GT(kernels_beside(schedule, kernels, op), 0)
        << "no kernel is free to run beside "
        << describe_op(static_cast<int>(op), schedule.ops[op]);
  }
  auto serial = schedule;
  for (auto& op : serial.ops) {
    op.lane = Lane::compute;
  }
  EXPECT_FALSE(structure_errors(serial, kernels, true).empty()) << "the negative twin";
}

/// The twin of the overlap: one lane orders everything.
void expect_no_overlap(const Schedule& schedule, const StepKernels& kernels) {
  EXPECT_TRUE(overlapped_exchanges(schedule).empty());
  EXPECT_EQ(num_unordered_pairs(kernels, false), 0) << "pairs of kernels without an order";
}

/// Ubatches of the same bounds launch equally many kernels, op by op. Returns how many are like the
/// first.
int expect_equal_ubatches(const ModelGraphCase& made, const StepKernels& kernels) {
  const auto& bounds = made.bounds();
  const auto& ops = made.schedule().ops;
  const auto is_like_first = [&](int ubatch) {
    const auto u = static_cast<std::size_t>(ubatch);
    return bounds.tokens[u] == bounds.tokens[0] && bounds.segments[u] == bounds.segments[0] &&
           bounds.keys[u] == bounds.keys[0] && bounds.context[u] == bounds.context[0];
  };
  std::map<std::tuple<int, Phase, int>, std::size_t> of_first;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    if (ops[i].ubatch == 0) {
      of_first[{ops[i].layer, ops[i].phase, ops[i].group}] = kernels.of_op[i].size();
    }
  }
  int num_alike = 0;
  for (int u = 0; u < bounds.num_ubatches; ++u) {
    num_alike += is_like_first(u) ? 1 : 0;
  }
  for (std::size_t i = 0; i < ops.size(); ++i) {
    if (is_like_first(ops[i].ubatch)) {
      EXPECT_EQ(kernels.of_op[i].size(), of_first.at({ops[i].layer, ops[i].phase, ops[i].group}))
          << describe_op(static_cast<int>(i), ops[i]) << " against ubatch 0";
    }
  }
  return num_alike;
}

/// Without the edges behind the kernels of the first op, the check must fail.
void expect_missing_edges_to_be_found(const ModelGraphCase& made, StepKernels kernels) {
  const std::set<int> of_first(kernels.of_op.front().begin(), kernels.of_op.front().end());
  std::erase_if(kernels.shape.edges,
                [&](const auto& edge) { return of_first.count(edge.first) > 0; });
  EXPECT_FALSE(structure_errors(made.schedule(), kernels, made.has_peers()).empty())
      << "the negative twin";
}

void print_counts(const ModelGraphCase& made, const StepKernels& kernels) {
  std::size_t in_exchanges = 0;
  std::size_t num_exchanges = 0;
  for (std::size_t i = 0; i < made.schedule().ops.size(); ++i) {
    if (is_exchange(made.schedule().ops[i].phase)) {
      ++num_exchanges;
      in_exchanges += kernels.of_op[i].size();
    }
  }
  if (world_rank() == 0) {
    std::printf("%zu nodes, %d kernels, %zu of them in %zu exchange ops; %zu overlapped\n",
                kernels.shape.nodes.size(),
                kernels.num_kernels,
                in_exchanges,
                num_exchanges,
                overlapped_exchanges(made.schedule()).size());
  }
}

TEST_P(ModelGraph, KernelsHaveTheOrdersOfTheSchedule) {
  DOVETAIL_REQUIRE_GPU();
  ModelGraphCase made(GetParam());
  const auto& schedule = made.schedule();
  warm_up(made);
  const auto first = capture_on_all_ranks(made);
  ASSERT_NE(first, nullptr);
  const auto kernels = kernels_of(*first, made.watch());
  const auto second = capture_on_all_ranks(made);
  ASSERT_NE(second, nullptr);
  const auto again = kernels_of(*second, made.watch());
  print_counts(made, kernels);
  EXPECT_EQ(again.names(), kernels.names()) << "two captures of one step";
  for (const auto* captured : {&kernels, &again}) {
    const auto errors = structure_errors(schedule, *captured, made.has_peers());
    EXPECT_TRUE(errors.empty()) << some_of(errors);
  }
  expect_missing_edges_to_be_found(made, kernels);
  EXPECT_EQ(num_unordered_pairs(kernels, true), 0) << "pairs of transfers without an order";
  const auto num_alike = expect_equal_ubatches(made, kernels);
  if (GetParam().phase == WorkPhase::decode) {
    EXPECT_EQ(num_alike, schedule.num_ubatches) << "decode splits evenly";
  }
  if (GetParam().policy == "sequential") {
    expect_no_overlap(schedule, kernels);
  } else if (made.has_peers()) {
    expect_overlap(schedule, kernels);
  }
}

TEST_P(ModelGraph, AFailureOnOneRankLeavesAllAbleToCaptureAgain) {
  DOVETAIL_REQUIRE_GPU();
  ModelGraphCase made(GetParam());
  const auto eager = warm_up(made);
  const int last_ubatch = made.schedule().num_ubatches - 1;
  for (int attempt = 0; attempt < 2; ++attempt) {
    made.watch().before = [&](const Op& op) {
      // Layer 2 is the second MoE layer: transfers have been captured by then.
      if (made.is_last_rank() && op.phase == Phase::experts && op.layer == 2 &&
          op.ubatch == last_ubatch) {
        throw std::runtime_error("on purpose");
      }
    };
    bool has_failed = false;
    try {
      // A whole graph dies at once: its step is thrown away on all ranks.
      EXPECT_NE(made.capture(), nullptr);
    } catch (const OpError& error) {
      has_failed = true;
      EXPECT_EQ(error.place().layer, 2) << error.what();
      EXPECT_EQ(error.place().phase, "experts") << error.what();
    } catch (const std::exception& error) {
      has_failed = true;
      ADD_FAILURE() << "another failure than the one on purpose: " << error.what();
    }
    EXPECT_EQ(has_failed, made.is_last_rank());
    EXPECT_FALSE(is_capturing(made.runner().compute_stream()));
    EXPECT_FALSE(is_capturing(made.runner().comm_stream()));
    EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
    made.watch().before = {};
    ASSERT_TRUE(on_any_rank(has_failed));
    const auto step = capture_on_all_ranks(made);
    ASSERT_NE(step, nullptr);
    const auto errors =
        structure_errors(made.schedule(), kernels_of(*step, made.watch()), made.has_peers());
    EXPECT_TRUE(errors.empty()) << some_of(errors);
    expect_replays(made, *step, eager);
  }
  expect_same(made.run_eager(0), eager[0], "eager at the end");
}

/// The products of a row do not depend on what else is in a group.
TEST(ModelGraphGroups, GiveTheBitsOfAStepWithoutACut) {
  DOVETAIL_REQUIRE_GPU();
  for (const auto phase : {WorkPhase::prefill, WorkPhase::decode}) {
    ModelGraphSetting setting = {
        .policy = "sequential", .phase = phase, .exchange = "symmetric", .seed = fresh_seed()};
    EagerOutputs whole;
    {
      ModelGraphCase made(setting);
      whole = warm_up(made);
    }
    setting.policy = "expert_groups";
    for (const int num_groups : {2, 4, 8}) {
      if (num_groups * world_size() > 8) {
        continue;  // the model has 8 experts
      }
      setting.num_groups = num_groups;
      ModelGraphCase made(setting);
      const auto eager = warm_up(made);
      for (std::size_t batch = 0; batch < whole.size(); ++batch) {
        expect_same(eager.at(batch),
                    whole.at(batch),
                    std::to_string(num_groups) + " groups, batch " + std::to_string(batch));
      }
      const auto step = capture_on_all_ranks(made);
      ASSERT_NE(step, nullptr);
      expect_replays(made, *step, whole);
    }
  }
}

/// Each pair of policy, phase, exchange and hand-off is met.
std::vector<ModelGraphSetting> settings() {
  std::vector<ModelGraphSetting> all;
  const std::pair<const char*, int> policies[] = {
      {"sequential", 1}, {"dual_batch", 2}, {"dual_batch", 3}, {"staged", 2}};
  for (const auto& [policy, num_ubatches] : policies) {
    for (const auto phase : {WorkPhase::prefill, WorkPhase::decode}) {
      for (const auto* exchange : {"gather", "padded", "symmetric"}) {
        const bool has_threads =
            (phase == WorkPhase::prefill) == (std::string(exchange) != "padded");
        all.push_back({.policy = policy,
                       .num_ubatches = num_ubatches,
                       .phase = phase,
                       .exchange = exchange,
                       .hand_off = has_threads ? HandOff::threads : HandOff::inline_walk});
      }
    }
  }
  for (const int num_ubatches : {1, 2}) {
    for (const auto phase : {WorkPhase::prefill, WorkPhase::decode}) {
      const bool has_threads = (num_ubatches == 2) == (phase == WorkPhase::prefill);
      all.push_back({.policy = "expert_groups",
                     .num_ubatches = num_ubatches,
                     .num_groups = 2,
                     .phase = phase,
                     .exchange = "symmetric",
                     .hand_off = has_threads ? HandOff::threads : HandOff::inline_walk});
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Steps, ModelGraph, ::testing::ValuesIn(settings()), [](const auto& suite) {
  return name_of(suite.param);
});

}  // namespace
}  // namespace dovetail::test
