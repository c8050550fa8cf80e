// Which op's start is another op's end: found again from all orders, and what may not count as one.
#include "framework/exec/op_predecessors.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "framework/exec/op_ends.hpp"
#include "tests/support/sanitized.hpp"
#include "tests/unit/exec/lane_orders.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

using testing::find_followed;
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
    if (testing::kSanitized && schedule.ops.size() > 30) {
      continue;  // all orders of all edges are slow there
    }
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

/// What random ops enqueue nothing leave of the orders: what each op starts behind, by definition.
std::vector<int> sources_of(const Orders& before,
                            const std::vector<std::uint8_t>& is_empty,
                            std::size_t op) {
  std::vector<int> found;
  for (std::size_t i = 0; i < op; ++i) {
    if (!before[op][i] || is_empty[i] != 0) {
      continue;
    }
    bool is_last = true;
    for (std::size_t other = i + 1; other < op; ++other) {
      is_last = is_last && !(before[op][other] && is_empty[other] == 0 && before[other][i]);
    }
    if (is_last) {
      found.push_back(static_cast<int>(i));
    }
  }
  return found;
}

TEST(OpPredecessors, AreTheLastOpsThatAreNotEmpty) {
  std::mt19937_64 random(testing::fresh_seed());
  int num_two = 0;
  int num_behind_empty = 0;
  for (const auto& schedule : testing::many_schedules()) {
    for (const PassKind pass : kPasses) {
      const auto edges = edges_of(schedule, pass);
      const Orders before = orders_of(schedule, pass, waits_of(edges));
      OpPredecessors predecessors(schedule, pass, edges);
      std::vector<std::uint8_t> is_empty(schedule.ops.size(), 0);
      for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
        if (!runs_in(pass, schedule.ops[i].phase)) {
          continue;
        }
        const auto wanted = sources_of(before, is_empty, i);
        ASSERT_EQ(predecessors.of(i), wanted)
            << describe_op(static_cast<int>(i), schedule.ops[i]) << " of " << schedule.name;
        ASSERT_TRUE(predecessors.followed_by(i) < 0 ||
                    wanted == std::vector{predecessors.followed_by(i)});
        num_two += wanted.size() == 2 ? 1 : 0;
        num_behind_empty += predecessors.has_empty(i) ? 1 : 0;
        if (random() % 3 == 0) {
          predecessors.set_empty(i);
          ASSERT_EQ(predecessors.is_empty(i), !wanted.empty()) << "the first op stays";
          is_empty[i] = wanted.empty() ? 0 : 1;
        }
      }
    }
  }
  EXPECT_GT(num_two, 0);
  EXPECT_GT(num_behind_empty, 0);
}

/// Exchanges of one rank: what is left of any schedule is a chain on the compute lane.
TEST(OpPredecessors, OfOneRankAreAChain) {
  for (const auto& schedule : testing::all_policy_schedules({testing::kMoe, testing::kShared})) {
    OpPredecessors predecessors(schedule, PassKind::full, edges_of(schedule));
    std::vector<int> wanted;
    for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
      const auto found = predecessors.of(i);
      if (schedule.ops[i].lane == Lane::comm) {
        ASSERT_EQ(found.size(), 1U);
        predecessors.set_empty(i);
        continue;
      }
      ASSERT_EQ(found, wanted) << describe_op(static_cast<int>(i), schedule.ops[i]) << " of "
                               << schedule.name;
      wanted = {static_cast<int>(i)};
    }
  }
}

EndSource event() {
  return {EndKind::event};
}

EndSource own() {
  return {EndKind::own};
}

EndSource stamp_of(std::size_t op) {
  return {EndKind::stamp, static_cast<int>(op)};
}

TEST(FindEnds, OfAChain) {
  const auto schedule = schedule_of("sequential");
  const auto num_ops = schedule.ops.size();
  auto followed = find_followed(schedule, PassKind::full, edges_of(schedule));
  std::vector<OpHead> heads(num_ops, OpHead::stamped);
  std::vector<OpTail> tails(num_ops, OpTail::other);
  auto ends = find_ends(schedule, PassKind::full, followed, heads, tails);
  for (std::size_t i = 0; i + 1 < num_ops; ++i) {
    EXPECT_EQ(ends[i], stamp_of(i + 1));
  }
  EXPECT_EQ(ends.back(), event());

  heads.assign(num_ops, OpHead::other);
  EXPECT_EQ(find_ends(schedule, PassKind::full, followed, heads, tails),
            std::vector<EndSource>(num_ops, event()));
  tails.assign(num_ops, OpTail::stamped);
  EXPECT_EQ(find_ends(schedule, PassKind::full, followed, heads, tails),
            std::vector<EndSource>(num_ops, own()));
  tails.assign(num_ops, OpTail::other);

  // Op 3 is empty, so op 4 follows op 2; behind op 4 comes a kernel that writes no time. Op 2
  // writes its end, too, and the last one.
  heads.assign(num_ops, OpHead::stamped);
  heads[3] = OpHead::empty;
  heads[5] = OpHead::other;
  followed[4] = 2;
  tails[2] = tails.back() = OpTail::stamped;
  ends = find_ends(schedule, PassKind::full, followed, heads, tails);
  EXPECT_EQ(ends[2], stamp_of(4));
  EXPECT_EQ(ends[3], EndSource{EndKind::start});
  EXPECT_EQ(ends[4], event());
  EXPECT_EQ(ends[5], stamp_of(6));
  EXPECT_EQ(ends.back(), own());
}

/// Whatever ops begin and end with: an end is told by what comes right behind it, or by the op
/// itself.
TEST(FindEnds, AreToldByWhatComesRightBehind) {
  std::mt19937_64 random(testing::fresh_seed());
  constexpr OpHead any_head[] = {OpHead::other, OpHead::stamped, OpHead::empty};
  std::map<EndKind, int> counts;
  for (const auto& schedule : testing::many_schedules()) {
    for (const PassKind pass : kPasses) {
      const auto followed = find_followed(schedule, pass, edges_of(schedule, pass));
      std::vector<OpHead> heads;
      std::vector<OpTail> tails;
      for (std::size_t i = 0; i < followed.size(); ++i) {
        heads.push_back(any_head[random() % std::size(any_head)]);
        tails.push_back(random() % 2 == 0 ? OpTail::other : OpTail::stamped);
      }
      const auto ends = find_ends(schedule, pass, followed, heads, tails);
      for (std::size_t i = 0; i < ends.size(); ++i) {
        EndSource wanted;
        if (runs_in(pass, schedule.ops[i].phase)) {
          const auto found = std::find(followed.begin(), followed.end(), static_cast<int>(i));
          const auto next = static_cast<std::size_t>(found - followed.begin());
          const bool is_stamped = found != followed.end() && heads[next] == OpHead::stamped;
          wanted = is_stamped                    ? stamp_of(next)
                   : heads[i] == OpHead::empty   ? EndSource{EndKind::start}
                   : tails[i] == OpTail::stamped ? own()
                                                 : event();
        }
        ASSERT_EQ(ends[i], wanted) << describe_op(static_cast<int>(i), schedule.ops[i]);
        ++counts[ends[i].kind];
      }
    }
  }
  EXPECT_EQ(counts.size(), 5U) << "some kind of end was not seen";
}

}  // namespace
}  // namespace dovetail
