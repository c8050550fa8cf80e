// The graph of a real step that has times of its ops: which kernels write them, and that it
// computes the same.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/order_statistics.hpp"
#include "tests/gpu/gpu_test.hpp"
#include "tests/gpu/graph_orders.hpp"
#include "tests/gpu/model_graph_checks.hpp"

namespace dovetail::test {
namespace {

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

/// What an op must end with.
OpTail tail_of(const Op& op, const ModelGraphCase& made) {
  if (is_exchange(op.phase)) {
    return made.has_peers() && made.exchange_kind() == "symmetric" ? OpTail::stamped
                                                                   : OpTail::other;
  }
  return op.phase == Phase::route || op.phase == Phase::experts ? OpTail::stamped : OpTail::other;
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
    count += head == OpHead::other && tail_of(ops[before], made) == OpTail::other ? 1 : 0;
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
    // A look at the clock follows the last one, and says its end, too.
    EXPECT_EQ(events.tails[i], i + 1 == ops.size() ? OpTail::stamped : tail_of(ops[i], made))
        << name;
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

/// As in graphs, where it is proven that these kernels are the first and the last ones of their
/// ops.
TEST_P(ModelGraph, EagerOpsTellTheirTimesByTheSameTimeStamps) {
  DOVETAIL_REQUIRE_GPU();
  ModelGraphCase made(GetParam());
  const auto& ops = made.schedule().ops;
  const auto eager = warm_up(made);
  OpTimes times;
  expect_same(made.run_eager(0, &times), eager.front(), "with times");
  const StepEvents& events = made.runner().executor().eager_events();
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const auto name = describe_op(static_cast<int>(i), ops[i]);
    EXPECT_EQ(events.tails[i], tail_of(ops[i], made)) << name;
    EXPECT_EQ(events.ends[i].kind == EndKind::own, events.tails[i] == OpTail::stamped) << name;
    const bool is_empty = is_exchange(ops[i].phase) && !made.has_peers();
    EXPECT_EQ(events.ends[i].kind == EndKind::start, is_empty) << name;
    if (events.heads[i] == OpHead::stamped) {
      EXPECT_EQ(head_of(ops[i], made, true), OpHead::stamped) << name;
    }
    EXPECT_GE(times.end_ns[i], times.start_ns[i]) << name;
    EXPECT_GT(times.start_ns[i], 0) << name;
  }
  std::vector<double> apart_ns;
  for (int repeat = 0; repeat < 5; ++repeat) {
    static_cast<void>(made.run_eager(0, &times, /*gated=*/true));
    apart_ns.push_back(static_cast<double>(events.most_apart_ns(times)));
  }
  EXPECT_GT(median(apart_ns), 0) << "no time was taken twice";
  EXPECT_LT(median(apart_ns), 20'000);
}

}  // namespace
}  // namespace dovetail::test
