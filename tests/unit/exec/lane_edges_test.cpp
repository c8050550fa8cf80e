// What executors and captures make of a schedule's waits: nothing may be lost, nothing added.
#include "framework/exec/lane_edges.hpp"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "framework/exec/graph_pieces.hpp"
#include "tests/unit/exec/lane_orders.hpp"
#include "tests/unit/plan/op_set.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

using testing::kPasses;
using testing::Orders;
using testing::orders_of;
using testing::waits_of;

/// What a pass must keep: the orders of the whole schedule among the ops that it runs.
Orders orders_to_keep(const Schedule& schedule, PassKind pass) {
  std::vector<std::vector<int>> waits;
  for (const Op& op : schedule.ops) {
    waits.push_back(op.waits);
  }
  auto orders = orders_of(schedule, PassKind::full, waits);
  testing::OpSet run;
  for (std::size_t i = 0; i < orders.size(); ++i) {
    run.set(i, runs_in(pass, schedule.ops[i].phase));
  }
  for (std::size_t i = 0; i < orders.size(); ++i) {
    orders[i] = run[i] ? orders[i] & run : testing::OpSet();
  }
  return orders;
}

TEST(LaneEdges, KeepEveryOrderAndAddNone) {
  int num_left_out = 0;
  int num_added = 0;
  for (const auto& schedule : testing::many_schedules()) {
    for (const PassKind pass : kPasses) {
      LaneEdges edges;
      find_lane_edges(schedule, pass, edges);
      ASSERT_EQ(orders_of(schedule, pass, waits_of(edges)), orders_to_keep(schedule, pass))
          << schedule.name << ", " << to_string(pass);
      std::set<int> recorded;
      for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
        const auto& waits = schedule.ops[i].waits;
        const int kept = edges.wait_for[i];
        num_left_out += static_cast<int>(waits.size()) - (kept >= 0 ? 1 : 0);
        if (kept >= 0) {
          recorded.insert(kept);
          num_added += std::find(waits.begin(), waits.end(), kept) == waits.end() ? 1 : 0;
        }
      }
      for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
        ASSERT_EQ(edges.records[i] != 0, recorded.contains(static_cast<int>(i)));
      }
    }
  }
  EXPECT_GT(num_left_out, 0) << "no schedule had a wait that another one meets";
  EXPECT_GT(num_added, 0) << "no pass left out an op through which others are ordered";
}

TEST(LaneEdges, NameTheOpBeforeEachOnItsLane) {
  int num_behind_left_out = 0;
  for (const auto& schedule : testing::many_schedules()) {
    for (const PassKind pass : kPasses) {
      LaneEdges edges;
      find_lane_edges(schedule, pass, edges);
      for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
        int before = -1;
        int before_in_schedule = -1;
        for (std::size_t j = 0; j < i; ++j) {
          if (schedule.ops[j].lane == schedule.ops[i].lane) {
            before_in_schedule = static_cast<int>(j);
            if (runs_in(pass, schedule.ops[j].phase) && runs_in(pass, schedule.ops[i].phase)) {
              before = static_cast<int>(j);
            }
          }
        }
        ASSERT_EQ(edges.before[i], before) << schedule.name << ", " << to_string(pass);
        num_behind_left_out += before >= 0 && before != before_in_schedule ? 1 : 0;
      }
    }
  }
  EXPECT_GT(num_behind_left_out, 0) << "no pass left out an op of the lane";
}

TEST(LaneEdges, OneEdgeLessIsNoticed) {
  int num_noticed = 0;
  for (const auto& schedule : testing::all_policy_schedules({testing::kMoe, testing::kShared})) {
    LaneEdges edges;
    find_lane_edges(schedule, PassKind::full, edges);
    const auto whole = orders_to_keep(schedule, PassKind::full);
    auto kept = waits_of(edges);
    for (auto& wait : kept) {
      if (!wait.empty()) {
        const auto saved = std::exchange(wait, {});
        EXPECT_NE(orders_of(schedule, PassKind::full, kept), whole) << schedule.name;
        wait = saved;
        ++num_noticed;
      }
    }
  }
  EXPECT_GT(num_noticed, 0);
}

TEST(GraphPieces, CoverWhatIsCapturedAndNoMore) {
  for (const auto& schedule : testing::many_schedules()) {
    for (const PassKind pass : kPasses) {
      LaneEdges edges;
      find_lane_edges(schedule, pass, edges);
      std::vector<int> piece_of(schedule.ops.size(), -1);
      int number = 0;
      int last_end = 0;
      for (const auto& piece : graph_pieces(schedule, pass)) {
        ASSERT_LT(piece.first, piece.end);
        ASSERT_GE(piece.first, last_end);
        last_end = piece.end;
        for (int i = piece.first; i < piece.end; ++i) {
          const auto& op = schedule.ops[static_cast<std::size_t>(i)];
          piece_of[static_cast<std::size_t>(i)] = number;
          ASSERT_EQ(op.ubatch, schedule.ops[static_cast<std::size_t>(piece.first)].ubatch);
          if (i > piece.first) {
            ASSERT_LT(edges.wait_for[static_cast<std::size_t>(i)], 0);
          }
        }
        ++number;
      }
      for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
        const auto& op = schedule.ops[i];
        const bool captured =
            op.lane == Lane::compute && !is_exchange(op.phase) && runs_in(pass, op.phase);
        ASSERT_EQ(piece_of[i] >= 0, captured) << describe_op(static_cast<int>(i), op);
        // Longest: two neighbours are apart only for a reason.
        if (i > 0 && captured && piece_of[i - 1] >= 0 && piece_of[i - 1] != piece_of[i]) {
          ASSERT_TRUE(schedule.ops[i - 1].ubatch != op.ubatch || edges.wait_for[i] >= 0);
        }
      }
    }
  }
}

TEST(GraphPieces, OfSequentialAreBetweenExchanges) {
  for (const auto& schedule : testing::all_policy_schedules({testing::kMoe, testing::kMoe})) {
    if (schedule.name == "sequential") {
      // embed attention route | dispatch | experts | combine | attention route | ...
      EXPECT_EQ(graph_pieces(schedule, PassKind::full),
                (std::vector<GraphPiece>{{0, 3}, {4, 5}, {6, 8}, {9, 10}, {11, 12}}));
      EXPECT_TRUE(graph_pieces(schedule, PassKind::comm_only).empty());
    }
  }
}

}  // namespace
}  // namespace dovetail
