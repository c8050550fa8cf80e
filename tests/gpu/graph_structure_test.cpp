// Captured graphs themselves: kernels per op, the chain of comm ops, every order that the schedule
// asks for, and none that it does not.
#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/cuda/event.hpp"
#include "framework/cuda/time_stamp.hpp"
#include "framework/exec/graph_pieces.hpp"
#include "framework/exec/lane_edges.hpp"
#include "framework/exec/op_predecessors.hpp"
#include "framework/plan/policy.hpp"
#include "tests/gpu/graph_orders.hpp"
#include "tests/gpu/marker_step.hpp"
#include "tests/gpu/runner_options.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

using test::error_of_looks;
using test::first_of;
using test::graph_errors;
using test::MarkerStep;
using test::own_gpu;
using test::TimeStampUse;
using test::walk_by;

std::unique_ptr<CapturedStep> capture(CudaStepRunner& runner,
                                      const Schedule& schedule,
                                      MarkerStep& body,
                                      GraphMode mode,
                                      bool instrumented = false,
                                      PassKind pass = PassKind::full) {
  for (int i = 0; i < 2; ++i) {
    runner.run_eager(schedule, body, pass, nullptr);
  }
  return runner.capture(schedule, body, pass, mode, instrumented);
}

Schedule make(const std::string& policy, int num_ubatches, int num_groups = 1) {
  const ModelShape model{std::vector<LayerShape>(2, testing::kShared)};
  return policies().at(policy).make_schedule({.model = model,
                                              .phase = WorkPhase::prefill,
                                              .num_ubatches = num_ubatches,
                                              .num_groups = num_groups});
}

/// The end of each op but of the last one, which a kernel tells, and of those that another one
/// follows with a time stamp. The start of an op is the end of what it waits for.
int num_event_nodes(const Schedule& schedule, bool has_time_stamps) {
  int count = static_cast<int>(schedule.ops.size()) - 1;
  if (has_time_stamps) {
    LaneEdges edges;
    find_lane_edges(schedule, PassKind::full, edges);
    const OpPredecessors predecessors(schedule, PassKind::full, edges);
    for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
      count -= predecessors.followed_by(i) >= 0 ? 1 : 0;
    }
  }
  return count;
}

/// Ops that nothing comes before.
int num_starts(const Schedule& schedule) {
  std::set<Lane> begun;
  int count = 0;
  for (const Op& op : schedule.ops) {
    count += begun.insert(op.lane).second && op.waits.empty() ? 1 : 0;
  }
  return count;
}

/// Kernels that wait for an event node: it would cost the step its time.
int num_waiting_for_events(const GraphShape& shape) {
  const auto reach = shape.reachability();
  const int num_nodes = static_cast<int>(shape.nodes.size());
  int count = 0;
  for (int a = 0; a < num_nodes; ++a) {
    for (int b = 0; b < num_nodes; ++b) {
      const auto type_of = [&](int node) {
        return shape.nodes[static_cast<std::size_t>(node)].type;
      };
      count += type_of(a) == cudaGraphNodeTypeEventRecord &&
                       type_of(b) == cudaGraphNodeTypeKernel && reach.reaches(a, b)
                   ? 1
                   : 0;
    }
  }
  return count;
}

/// Whether the graph has times of ops, and by what.
constexpr std::pair<bool, TimeStampUse> kTimings[] = {
    {false, TimeStampUse::write}, {true, TimeStampUse::leave}, {true, TimeStampUse::write}};

TEST(GraphStructure, FullGraphsHaveTheOrdersOfTheSchedule) {
  DOVETAIL_REQUIRE_GPU();
  const auto seed = testing::fresh_seed();
  std::cout << "seed " << seed << "\n";
  std::mt19937_64 random(seed);
  for (const HandOff hand_off : test::kHandOffs) {
    CudaStepRunner runner(own_gpu(), walk_by(hand_off));
    for (const auto& schedule : test::marker_schedules(6, random)) {
      MarkerStep body(schedule);
      for (const auto& [instrumented, time_stamps] : kTimings) {
        body.time_stamps = time_stamps;
        const auto step = capture(runner, schedule, body, GraphMode::full, instrumented);
        ASSERT_EQ(step->num_pieces(), 1);
        const auto shape = inspect(step->graph(0).raw());
        const auto errors = graph_errors(schedule, PassKind::full, shape);
        EXPECT_TRUE(errors.empty())
            << schedule.name << ", " << schedule.num_ubatches << " ubatches, "
            << to_string(hand_off) << ": " << first_of(errors);
        const int num_events =
            instrumented ? num_event_nodes(schedule, time_stamps == TimeStampUse::write) : 0;
        auto counts = shape.count_by_type();
        EXPECT_EQ(counts["event record"], num_events);
        EXPECT_EQ(error_of_looks(shape, instrumented ? num_starts(schedule) + 1 : 0), "")
            << schedule.name;
        EXPECT_EQ(num_waiting_for_events(shape), 0) << schedule.name;
        EXPECT_EQ(counts["kernel"] + num_events, step->num_nodes()) << "nodes of another type";
      }
    }
  }
}

TEST(GraphStructure, PassesLeaveOutTheirOpsAndKeepTheOrder) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(testing::fresh_seed());
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::threads));
  for (const auto& schedule : test::marker_schedules(3, random)) {
    for (const PassKind pass : {PassKind::compute_only, PassKind::comm_only}) {
      MarkerStep body(schedule);
      const auto step = capture(runner, schedule, body, GraphMode::full, false, pass);
      const auto errors = graph_errors(schedule, pass, inspect(step->graph(0).raw()));
      EXPECT_TRUE(errors.empty()) << schedule.name << ", " << to_string(pass) << ": "
                                  << first_of(errors);
    }
  }
}

/// The absence of edges is what overlap means; the graph of a schedule that overlaps nothing must
/// not look the same.
TEST(GraphStructure, OnlyOverlappingSchedulesLeaveOpsUnordered) {
  DOVETAIL_REQUIRE_GPU();
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::threads));
  for (const auto& [policy, num_ubatches, num_groups, overlaps] :
       {std::tuple{"sequential", 1, 1, false},
        {"dual_batch", 2, 1, true},
        {"dual_batch", 4, 1, true},
        {"expert_groups", 1, 4, true}}) {
    const Schedule schedule = make(policy, num_ubatches, num_groups);
    MarkerStep body(schedule);
    const auto step = capture(runner, schedule, body, GraphMode::full);
    const auto shape = inspect(step->graph(0).raw());
    const auto reach = shape.reachability();
    const int num_nodes = static_cast<int>(shape.nodes.size());
    int num_unordered = 0;
    for (int a = 0; a < num_nodes; ++a) {
      for (int b = a + 1; b < num_nodes; ++b) {
        num_unordered += !reach.reaches(a, b) && !reach.reaches(b, a) ? 1 : 0;
      }
    }
    EXPECT_EQ(num_unordered > 0, overlaps) << policy << ", " << num_ubatches << " ubatches";
    EXPECT_EQ(!test::overlapping_pairs(schedule).empty(), overlaps);
  }
}

/// Without exchanges each schedule is one chain: no op waits for what is long done, and no event is
/// needed where ops write time stamps.
TEST(GraphStructure, OfOneRankIsAChain) {
  DOVETAIL_REQUIRE_GPU();
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::threads));
  for (const auto& schedule : {make("sequential", 1),
                               make("dual_batch", 2),
                               make("staged", 2),
                               make("expert_groups", 1, 4)}) {
    MarkerStep body(schedule);
    body.has_peers = false;
    body.time_stamps = TimeStampUse::write;
    for (const bool instrumented : {false, true}) {
      const auto step = capture(runner, schedule, body, GraphMode::full, instrumented);
      const auto shape = inspect(step->graph(0).raw());
      std::map<int, int> num_before;
      for (const auto& [from, to] : shape.edges) {
        const auto is_kernel = [&](int node) {
          return shape.nodes[static_cast<std::size_t>(node)].type == cudaGraphNodeTypeKernel;
        };
        num_before[to] += is_kernel(from) && is_kernel(to) ? 1 : 0;
      }
      int num_edges = 0;
      for (const auto& [node, count] : num_before) {
        EXPECT_LE(count, 1) << schedule.name;
        num_edges += count;
      }
      auto counts = shape.count_by_type();
      EXPECT_EQ(num_edges, counts["kernel"] - 1) << schedule.name;
      EXPECT_EQ(counts["event record"], 0) << schedule.name;
      EXPECT_EQ(error_of_looks(shape, instrumented ? 2 : 0), "") << schedule.name;
    }
  }
}

/// The twin: an exchange that says it has no work, and has some. An eager step would believe it.
TEST(GraphStructure, WorkThatWasToldToBeNoneIsAnError) {
  DOVETAIL_REQUIRE_GPU();
  const Schedule schedule = make("sequential", 1);
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::inline_walk));
  MarkerStep body(schedule);
  bool is_told = false;
  body.before = [&](int, const Op& op) {
    if (is_told && op.phase == Phase::combine) {
      tell_no_work(runner.compute_stream());
    }
  };
  for (const bool tells : {false, true}) {
    is_told = false;
    runner.run_eager(schedule, body, PassKind::full, nullptr);
    is_told = tells;
    try {
      runner.capture(schedule, body, PassKind::full, GraphMode::full, /*instrumented=*/true);
      EXPECT_FALSE(tells);
    } catch (const Error& error) {
      EXPECT_TRUE(tells);
      const std::string text = error.what();
      EXPECT_NE(text.find("was told to have no work"), std::string::npos) << text;
      EXPECT_NE(text.find("combine"), std::string::npos) << text;
    }
  }
}

/// Twins: graphs that are not the schedule's.
TEST(GraphStructure, WrongGraphsAreNoticed) {
  DOVETAIL_REQUIRE_GPU();
  const Schedule schedule = make("dual_batch", 2);
  const auto pairs = test::overlapping_pairs(schedule);
  ASSERT_FALSE(pairs.empty());
  CudaStepRunner runner(own_gpu(), walk_by(HandOff::threads));
  MarkerStep body(schedule);
  const Event extra(Event::Kind::order);
  bool capturing = false;
  body.before = [&](int index, const Op&) {
    if (capturing && index == pairs.front().second) {
      extra.record(runner.comm_stream());
      extra.hold(runner.compute_stream());
    }
  };
  for (int i = 0; i < 2; ++i) {
    runner.run_eager(schedule, body, PassKind::full, nullptr);
  }
  capturing = true;
  const auto with_edge = runner.capture(schedule, body, PassKind::full, GraphMode::full, false);
  capturing = false;
  EXPECT_FALSE(graph_errors(schedule, PassKind::full, inspect(with_edge->graph(0).raw())).empty());

  // The same graph held against a schedule in which an op less is to run: its kernels are too many.
  const auto step = capture(runner, schedule, body, GraphMode::full);
  EXPECT_TRUE(graph_errors(schedule, PassKind::full, inspect(step->graph(0).raw())).empty());
  EXPECT_FALSE(
      graph_errors(schedule, PassKind::compute_only, inspect(step->graph(0).raw())).empty());

  // And one in which an op waits for one more: the graph lacks an edge.
  Schedule stricter = schedule;
  stricter.ops[static_cast<std::size_t>(pairs.front().second)].waits.push_back(pairs.front().first);
  EXPECT_FALSE(graph_errors(stricter, PassKind::full, inspect(step->graph(0).raw())).empty());
}

TEST(GraphStructure, PiecesHoldTheirOpsInOneChain) {
  DOVETAIL_REQUIRE_GPU();
  for (const HandOff hand_off : test::kHandOffs) {
    CudaStepRunner runner(own_gpu(), walk_by(hand_off));
    for (const auto& schedule : {make("sequential", 1),
                                 make("shared_expert", 1),
                                 make("dual_batch", 3),
                                 make("expert_groups", 1, 3)}) {
      MarkerStep body(schedule);
      const auto step = capture(runner, schedule, body, GraphMode::piecewise);
      const auto pieces = graph_pieces(schedule, PassKind::full);
      ASSERT_EQ(step->num_pieces(), static_cast<int>(pieces.size()));
      for (int p = 0; p < step->num_pieces(); ++p) {
        EXPECT_EQ(step->ops_of(p), pieces[static_cast<std::size_t>(p)]);
        const auto shape = inspect(step->graph(p).raw());
        const auto reach = shape.reachability();
        std::vector<int> found;
        const int num_nodes = static_cast<int>(shape.nodes.size());
        for (int a = 0; a < num_nodes; ++a) {
          found.push_back(first_kernel_argument(shape.nodes[static_cast<std::size_t>(a)]));
          for (int b = a + 1; b < num_nodes; ++b) {
            EXPECT_TRUE(reach.reaches(a, b) || reach.reaches(b, a));
          }
        }
        std::sort(found.begin(), found.end());
        std::vector<int> wanted;
        for (int i = step->ops_of(p).first; i < step->ops_of(p).end; ++i) {
          wanted.insert(wanted.end(), 3, i);
        }
        EXPECT_EQ(found, wanted) << "piece " << p << " of " << schedule.name;
      }
    }
  }
}

}  // namespace
}  // namespace dovetail
