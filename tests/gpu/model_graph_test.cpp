// The captured graph of a real step: it computes what an eager step does, its nodes have the orders
// of the schedule and no others, and a capture that fails on one rank leaves all ranks well.
#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/cuda/stream_capture.hpp"
#include "tests/gpu/gpu_test.hpp"
#include "tests/gpu/graph_orders.hpp"
#include "tests/gpu/model_graph_case.hpp"

namespace dovetail::test {
namespace {

/// Empty where both hold the same bits.
std::string bits_that_differ(const at::Tensor& got, const at::Tensor& wanted) {
  if (got.sizes() != wanted.sizes() || got.scalar_type() != wanted.scalar_type()) {
    return "shapes or types differ";
  }
  const auto a = got.cpu().flatten().view(at::kShort);
  const auto b = wanted.cpu().flatten().view(at::kShort);
  const auto differs = a.ne(b).nonzero();
  if (differs.size(0) == 0) {
    return "";
  }
  const auto first = differs[0][0].item<std::int64_t>();
  const auto value = [first](const at::Tensor& x) {
    return std::to_string(x.cpu().flatten()[first].item<float>());
  };
  const auto row = got.size(-1);
  return std::to_string(differs.size(0)) + " of " + std::to_string(got.numel()) +
         " elements differ; first in row " + std::to_string(first / row) + ", column " +
         std::to_string(first % row) + ": wanted " + value(wanted) + ", got " + value(got);
}

void expect_same(const StepOutputs& got, const StepOutputs& wanted, const std::string& what) {
  EXPECT_EQ(bits_that_differ(got.hidden, wanted.hidden), "") << "hidden, " << what;
  EXPECT_EQ(bits_that_differ(got.logits, wanted.logits), "") << "logits, " << what;
  EXPECT_TRUE(got.expert_ids.equal(wanted.expert_ids)) << "experts, " << what;
}

/// Null on all ranks where a rank has failed.
std::unique_ptr<CapturedStep> capture_on_all_ranks(ModelGraphCase& made,
                                                   bool instrumented = false) {
  std::unique_ptr<CapturedStep> step;
  try {
    step = made.capture(instrumented);
  } catch (const std::exception& error) {
    ADD_FAILURE() << "capture: " << error.what();
  }
  return on_any_rank(step == nullptr) ? nullptr : std::move(step);
}

using EagerOutputs = std::array<StepOutputs, ModelGraphCase::kNumBatches>;

/// Two eager steps of batch 0, which a capture needs, then one of batch 1.
EagerOutputs warm_up(ModelGraphCase& made) {
  EagerOutputs eager;
  eager[0] = made.run_eager(0);
  expect_same(made.run_eager(0), eager[0], "the second eager step");
  eager[1] = made.run_eager(1);
  for (const auto& outputs : eager) {
    EXPECT_TRUE(outputs.hidden.isfinite().all().item<bool>()) << "an eager step";
  }
  return eager;
}

void expect_replays(ModelGraphCase& made, CapturedStep& step, const EagerOutputs& eager) {
  for (const int batch : {0, 1, 0}) {
    expect_same(made.replay(step, batch),
                eager.at(static_cast<std::size_t>(batch)),
                "replay of batch " + std::to_string(batch));
  }
}

class ModelGraph : public ::testing::TestWithParam<ModelGraphSetting> {};

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

/// What an op must begin with; `follows`: another one.
OpHead head_of(const Op& op, const ModelGraphCase& made, bool follows) {
  if (is_exchange(op.phase) && !made.has_peers()) {
    return OpHead::empty;
  }
  if (!follows) {
    return OpHead::other;
  }
  switch (op.phase) {
    case Phase::embed:
    case Phase::shared_experts:
      return OpHead::other;  // a library's kernel
    case Phase::dispatch:
    case Phase::combine:
      return made.exchange_kind() == "symmetric" ? OpHead::stamped : OpHead::other;
    default:
      return OpHead::stamped;
  }
}

/// What an op must end with. The last one is followed by a look at the clock, which says it, too.
OpTail tail_of(const Op& op, bool is_last) {
  const bool packs_or_reduces = op.phase == Phase::route || op.phase == Phase::experts;
  return is_last || packs_or_reduces ? OpTail::stamped : OpTail::other;
}

enum class Side { start, end };

/// Of the kernels of an op exactly one writes the time stamp of its start (end), and none of them
/// comes before (behind) it; where the op begins (ends) otherwise at most a look at the clock.
std::string error_of_stamp(const StepKernels& kernels,
                           std::size_t op,
                           const StepEvents& events,
                           Side side) {
  const auto* word = side == Side::start ? events.start_stamp(op) : events.end_stamp(op);
  const bool is_stamped = side == Side::start ? events.heads[op] == OpHead::stamped
                                              : events.tails[op] == OpTail::stamped;
  const auto orders = kernels.shape.reachability();
  std::vector<int> writers;
  for (std::size_t node = 0; node < kernels.shape.nodes.size(); ++node) {
    const auto& found = kernels.shape.nodes[node];
    if (found.type == cudaGraphNodeTypeKernel && has_argument_within(found, word, word + 1) &&
        !is_timer_look(found)) {
      writers.push_back(static_cast<int>(node));
    }
  }
  const bool is_looked_at = side == Side::end && op + 1 == kernels.of_op.size();
  if (writers.size() != (is_stamped && !is_looked_at ? 1 : 0)) {
    return std::to_string(writers.size()) + " kernels write its time stamp";
  }
  for (const int writer : writers) {
    bool is_of_op = false;
    for (const int kernel : kernels.of_op[op]) {
      is_of_op = is_of_op || kernel == writer;
      const bool is_ordered =
          side == Side::start ? orders.reaches(writer, kernel) : orders.reaches(kernel, writer);
      if (kernel != writer && !is_ordered) {
        return "a kernel is on the wrong side of the one that writes its time stamp";
      }
    }
    if (!is_of_op) {
      return "a kernel of another op writes its time stamp";
    }
  }
  return "";
}

/// Events of a step in which every op follows the one before: where that does not say how it ends,
/// nor this one how it begins.
int num_events_of_chain(const ModelGraphCase& made) {
  const auto& ops = made.schedule().ops;
  int count = 0;
  std::size_t before = 0;
  for (std::size_t i = 1; i < ops.size(); ++i) {
    const OpHead head = head_of(ops[i], made, true);
    if (head == OpHead::empty) {
      continue;
    }
    count += head == OpHead::other && tail_of(ops[before], false) == OpTail::other ? 1 : 0;
    before = i;
  }
  return count;
}

TEST_P(ModelGraph, OpsBeginAndEndWithTheTimeStampsOfTheirKernels) {
  DOVETAIL_REQUIRE_GPU();
  ModelGraphCase made(GetParam());
  const auto& ops = made.schedule().ops;
  const auto eager = warm_up(made);
  const auto step = capture_on_all_ranks(made, /*instrumented=*/true);
  ASSERT_NE(step, nullptr);
  const auto kernels = kernels_of(*step, made.watch());
  const auto errors = structure_errors(made.schedule(), kernels, made.has_peers());
  EXPECT_TRUE(errors.empty()) << some_of(errors);
  const StepEvents& events = step->events();
  int num_events = 0;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const auto name = describe_op(static_cast<int>(i), ops[i]);
    EXPECT_EQ(events.heads[i], head_of(ops[i], made, events.followed[i] >= 0)) << name;
    EXPECT_EQ(events.tails[i], tail_of(ops[i], i + 1 == ops.size())) << name;
    EXPECT_EQ(error_of_stamp(kernels, i, events, Side::start), "") << name;
    EXPECT_EQ(error_of_stamp(kernels, i, events, Side::end), "") << name;
    num_events += events.has_end_event(i) ? 1 : 0;
  }
  EXPECT_EQ(error_of_looks(kernels.shape, 2), "");
  // NCCL has events of its own in a graph.
  const auto plain = capture_on_all_ranks(made, /*instrumented=*/false);
  ASSERT_NE(plain, nullptr);
  EXPECT_EQ(kernels.shape.count_by_type()["event record"],
            num_events + inspect(plain->graph(0).raw()).count_by_type()["event record"]);
  if (GetParam().policy == "sequential") {
    // What is before each layer's shared experts, unless it packs or reduces; each exchange over
    // NCCL follows an op that does.
    EXPECT_EQ(num_events, num_events_of_chain(made));
  }
  for (const int batch : {0, 1, 0}) {
    OpTimes times;
    expect_same(made.replay(*step, batch, &times),
                eager.at(static_cast<std::size_t>(batch)),
                "replay with times, batch " + std::to_string(batch));
    for (std::size_t i = 0; i < ops.size(); ++i) {
      EXPECT_GE(times.end_ns[i], times.start_ns[i]);
      EXPECT_GT(times.start_ns[i], 0);
    }
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
