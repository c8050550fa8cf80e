// Which op's start is another op's end: found again from all orders, and what may not count as one.
#include "framework/exec/op_followers.hpp"

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/exec/lane_orders.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

using testing::kPasses;
using testing::Orders;
using testing::orders_of;
using testing::waits_of;

/// Of the ops that come before one: the last, and how many do not come before this one.
struct LastBefore {
  int op = -1;
  int others = 0;
};

LastBefore last_before(const Orders& before, std::size_t op) {
  LastBefore last;
  // No op comes before one with a smaller index.
  for (std::size_t i = op; i-- > 0;) {
    if (!before[op][i]) {
      continue;
    }
    if (last.op < 0) {
      last.op = static_cast<int>(i);
    } else {
      last.others += before[static_cast<std::size_t>(last.op)][i] ? 0 : 1;
    }
  }
  return last;
}

bool has_compute_beside(const Schedule& schedule,
                        PassKind pass,
                        const Orders& before,
                        std::size_t op) {
  for (std::size_t i = 0; i < before.size(); ++i) {
    const Op& other = schedule.ops[i];
    if (i != op && other.lane == Lane::compute && runs_in(pass, other.phase) && !before[i][op] &&
        !before[op][i]) {
      return true;
    }
  }
  return false;
}

/// How many ops follow another one, and why others do not.
struct Counts {
  int following = 0;
  int behind_two = 0;      ///< whose order is open
  int beside_compute = 0;  ///< behind one, on the comm lane
};

/// Holds the ops that edges make follow one another against all orders of these edges.
void expect_followers(const Schedule& schedule,
                      PassKind pass,
                      const LaneEdges& edges,
                      Counts& counts) {
  const Orders before = orders_of(schedule, pass, waits_of(edges));
  const auto followed = find_followed(schedule, pass, edges);
  ASSERT_EQ(followed.size(), schedule.ops.size());
  std::set<int> taken;
  for (std::size_t i = 0; i < followed.size(); ++i) {
    const LastBefore last = last_before(before, i);
    const bool waits_for_sms =
        schedule.ops[i].lane == Lane::comm && has_compute_beside(schedule, pass, before, i);
    const bool is_behind_one = last.op >= 0 && last.others == 0;
    const bool follows = is_behind_one && !waits_for_sms;
    ASSERT_EQ(followed[i], follows ? last.op : -1)
        << describe_op(static_cast<int>(i), schedule.ops[i]) << " of " << schedule.name << ", "
        << to_string(pass);
    if (follows) {
      ASSERT_TRUE(taken.insert(followed[i]).second) << "two ops follow one";
    }
    counts.following += follows ? 1 : 0;
    counts.behind_two += last.others > 0 ? 1 : 0;
    counts.beside_compute += is_behind_one && waits_for_sms ? 1 : 0;
  }
}

Schedule schedule_of(const std::string& policy) {
  for (const auto& schedule : testing::all_policy_schedules({testing::kMoe, testing::kShared})) {
    if (schedule.name == policy) {
      return schedule;
    }
  }
  ADD_FAILURE() << "no policy " << policy;
  return {};
}

LaneEdges edges_of(const Schedule& schedule, PassKind pass = PassKind::full) {
  LaneEdges edges;
  find_lane_edges(schedule, pass, edges);
  return edges;
}

TEST(OpFollowers, AreBehindOneOpAndHeldBackByNothingElse) {
  Counts counts;
  for (const auto& schedule : testing::many_schedules()) {
    for (const PassKind pass : kPasses) {
      ASSERT_NO_FATAL_FAILURE(expect_followers(schedule, pass, edges_of(schedule, pass), counts));
    }
  }
  EXPECT_GT(counts.following, 0);
  EXPECT_GT(counts.behind_two, 0) << "no op was behind two whose order is open";
  EXPECT_GT(counts.beside_compute, 0) << "no op of the comm lane was beside a compute op";
}

/// What a fault that skips a wait leaves of the edges.
TEST(OpFollowers, AreThoseOfTheEdgesNotOfTheSchedule) {
  int num_changed = 0;
  Counts counts;
  for (const auto& schedule : testing::all_policy_schedules({testing::kMoe, testing::kShared})) {
    const auto whole = find_followed(schedule, PassKind::full, edges_of(schedule));
    for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
      auto edges = edges_of(schedule);
      if (edges.wait_for[i] < 0) {
        continue;
      }
      edges.wait_for[i] = -1;
      ASSERT_NO_FATAL_FAILURE(expect_followers(schedule, PassKind::full, edges, counts));
      num_changed += find_followed(schedule, PassKind::full, edges) != whole ? 1 : 0;
    }
  }
  EXPECT_GT(num_changed, 0);
}

TEST(OpFollowers, OfAChainAreAllOpsButTheFirst) {
  const auto schedule = schedule_of("sequential");
  for (const PassKind pass : kPasses) {
    int last = -1;
    const auto followed = find_followed(schedule, pass, edges_of(schedule, pass));
    for (std::size_t i = 0; i < followed.size(); ++i) {
      const bool runs = runs_in(pass, schedule.ops[i].phase);
      EXPECT_EQ(followed[i], runs ? last : -1) << describe_op(static_cast<int>(i), schedule.ops[i]);
      last = runs ? static_cast<int>(i) : last;
    }
  }
}

/// Where ubatches or groups overlap, an op of one lane does not tell when one of the other ended.
TEST(OpFollowers, AreNoneAcrossLanesThatOverlap) {
  for (const auto* policy : {"dual_batch", "staged", "expert_groups"}) {
    const auto schedule = schedule_of(policy);
    Counts counts;
    ASSERT_NO_FATAL_FAILURE(expect_followers(schedule, PassKind::full, edges_of(schedule), counts));
    EXPECT_GT(counts.following, 0) << policy;
    EXPECT_GT(counts.behind_two + counts.beside_compute, 0) << policy;
  }
}

/// attention, route | dispatch beside shared_experts | experts behind both.
TEST(OpFollowers, OfASmallStepByHand) {
  Schedule schedule;
  schedule.layers = {testing::kShared};
  const auto add = [&](Phase phase, Lane lane, std::vector<int> waits) {
    schedule.ops.push_back({.layer = 0, .phase = phase, .lane = lane, .waits = std::move(waits)});
  };
  add(Phase::attention, Lane::compute, {});
  add(Phase::route, Lane::compute, {0});
  add(Phase::dispatch, Lane::comm, {1});
  add(Phase::shared_experts, Lane::compute, {1});
  add(Phase::experts, Lane::compute, {2});
  add(Phase::combine, Lane::comm, {4});
  const auto followed = [&] { return find_followed(schedule, PassKind::full, edges_of(schedule)); };
  EXPECT_EQ(followed(), (std::vector<int>{-1, 0, -1, 1, -1, 4}));
  // The dispatch is beside nothing where the shared experts wait for it.
  schedule.ops[3].waits = {2};
  EXPECT_EQ(followed(), (std::vector<int>{-1, 0, 1, 2, 3, 4}));
}

EndSource event_of(int op) {
  return {.op = op, .is_start_of_other = false};
}

EndSource start_of(int op) {
  return {.op = op, .is_start_of_other = true};
}

TEST(FindEnds, OfAChain) {
  const auto schedule = schedule_of("sequential");
  const auto last = static_cast<int>(schedule.ops.size()) - 1;
  const auto followed = find_followed(schedule, PassKind::full, edges_of(schedule));
  std::vector<OpHead> heads(schedule.ops.size(), OpHead::stamped);
  auto ends = find_ends(schedule, PassKind::full, followed, heads);
  for (int i = 0; i < last; ++i) {
    EXPECT_EQ(ends[static_cast<std::size_t>(i)], start_of(i + 1));
  }
  EXPECT_EQ(ends.back(), event_of(last));

  heads.assign(heads.size(), OpHead::other);
  ends = find_ends(schedule, PassKind::full, followed, heads);
  for (int i = 0; i <= last; ++i) {
    EXPECT_EQ(ends[static_cast<std::size_t>(i)], event_of(i));
  }

  // Empty ops end where the op before them does; so do two of them.
  heads = std::vector<OpHead>(heads.size(), OpHead::stamped);
  heads[3] = heads[4] = OpHead::empty;
  heads[7] = OpHead::other;
  heads[6] = OpHead::empty;
  ends = find_ends(schedule, PassKind::full, followed, heads);
  EXPECT_EQ(ends[1], start_of(2));
  EXPECT_EQ(ends[2], start_of(5));
  EXPECT_EQ(ends[3], start_of(5));
  EXPECT_EQ(ends[4], start_of(5));
  EXPECT_EQ(ends[5], event_of(6)) << "of the empty op, behind which nothing tells the time";
  EXPECT_EQ(ends[6], event_of(6));
  EXPECT_EQ(ends[7], start_of(8));
}

/// Whatever ops begin with: an end is told by what comes right behind it, or by the op itself.
TEST(FindEnds, AreToldByWhatComesRightBehind) {
  std::mt19937_64 random(testing::fresh_seed());
  constexpr OpHead any_head[] = {OpHead::other, OpHead::stamped, OpHead::empty};
  int num_starts = 0;
  int num_events = 0;
  for (const auto& schedule : testing::many_schedules()) {
    for (const PassKind pass : kPasses) {
      const auto followed = find_followed(schedule, pass, edges_of(schedule, pass));
      std::vector<OpHead> heads;
      for (std::size_t i = 0; i < followed.size(); ++i) {
        heads.push_back(any_head[random() % std::size(any_head)]);
      }
      const auto ends = find_ends(schedule, pass, followed, heads);
      for (std::size_t i = 0; i < ends.size(); ++i) {
        EndSource wanted;
        if (runs_in(pass, schedule.ops[i].phase)) {
          wanted = event_of(static_cast<int>(i));
          for (std::size_t next = i; wanted.op == static_cast<int>(next);) {
            const auto found = std::find(followed.begin(), followed.end(), static_cast<int>(next));
            next = static_cast<std::size_t>(found - followed.begin());
            if (found == followed.end() || heads[next] == OpHead::other) {
              break;
            }
            wanted = heads[next] == OpHead::empty ? event_of(static_cast<int>(next))
                                                  : start_of(static_cast<int>(next));
            if (wanted.is_start_of_other) {
              break;
            }
          }
          num_starts += wanted.is_start_of_other ? 1 : 0;
          num_events += wanted.is_start_of_other ? 0 : 1;
        }
        ASSERT_EQ(ends[i], wanted) << describe_op(static_cast<int>(i), schedule.ops[i]);
      }
    }
  }
  EXPECT_GT(num_starts, 0);
  EXPECT_GT(num_events, 0);
}

}  // namespace
}  // namespace dovetail
