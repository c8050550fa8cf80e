// The schedule check against a slow oracle: reachability in the happens-before graph by plain
// search, over mutated and random schedules.
#include "framework/plan/schedule_check.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <tuple>
#include <utility>

#include <gtest/gtest.h>

#include "framework/plan/policy.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/sanitized.hpp"
#include "tests/unit/plan/op_set.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

using testing::kDense;
using testing::kMoe;
using testing::kShared;

/// Stated without the product's tables. Phases of a layer in order; shared_experts stand aside.
int stage(Phase phase) {
  static const std::map<Phase, int> stages = {{Phase::attention, 0},
                                              {Phase::route, 1},
                                              {Phase::mlp, 1},
                                              {Phase::dispatch, 2},
                                              {Phase::experts, 3},
                                              {Phase::combine, 4}};
  return stages.at(phase);
}

int layer_place(const Schedule& schedule, const Op& op) {
  return op.phase == Phase::output ? static_cast<int>(schedule.layers.size()) : op.layer;
}

/// Must `a` be done before `b` starts? Every ordered pair of the model, not only direct inputs; so
/// an exchange buffer that is used again while in flight breaks a pair, too.
bool must_precede(const Schedule& schedule, const Op& a, const Op& b) {
  if (a.phase == Phase::attention && b.phase == Phase::attention && a.layer == b.layer) {
    return a.ubatch < b.ubatch;
  }
  if (a.ubatch != b.ubatch) {
    return false;
  }
  if (layer_place(schedule, a) != layer_place(schedule, b)) {
    return layer_place(schedule, a) < layer_place(schedule, b);
  }
  if (a.phase == Phase::shared_experts) {
    return false;
  }
  if (b.phase == Phase::shared_experts) {
    return stage(a.phase) <= stage(Phase::route);
  }
  if (a.layer != kNoLayer && stage(a.phase) >= 2 && stage(b.phase) >= 2) {
    return a.phase == b.phase ? a.group < b.group
                              : stage(a.phase) < stage(b.phase) && a.group <= b.group;
  }
  return a.layer != kNoLayer && stage(a.phase) < stage(b.phase);
}

using OpName = std::tuple<int, int, int, int>;

std::multiset<OpName> expected_ops(const Schedule& schedule) {
  std::multiset<OpName> ops;
  for (int u = 0; u < schedule.num_ubatches; ++u) {
    const auto add = [&](int layer, Phase phase, int group = -1) {
      ops.insert({layer, u, static_cast<int>(phase), group});
    };
    add(kNoLayer, Phase::embed);
    add(kNoLayer, Phase::output);
    for (int l = 0; l < static_cast<int>(schedule.layers.size()); ++l) {
      const auto& shape = schedule.layers[static_cast<std::size_t>(l)];
      add(l, Phase::attention);
      if (!shape.is_moe) {
        add(l, Phase::mlp);
        continue;
      }
      add(l, Phase::route);
      for (const Phase phase : {Phase::dispatch, Phase::experts, Phase::combine}) {
        if (schedule.num_groups == 1) {
          add(l, phase);
        }
        for (int g = 0; schedule.num_groups > 1 && g < schedule.num_groups; ++g) {
          add(l, phase, g);
        }
      }
      if (shape.has_shared_experts) {
        add(l, Phase::shared_experts);
      }
    }
  }
  return ops;
}

bool structure_holds(const Schedule& schedule) {
  std::multiset<OpName> ops;
  for (int i = 0; i < static_cast<int>(schedule.ops.size()); ++i) {
    const Op& op = schedule.ops[static_cast<std::size_t>(i)];
    ops.insert({op.layer, op.ubatch, static_cast<int>(op.phase), op.group});
    const bool exchange = op.phase == Phase::dispatch || op.phase == Phase::combine;
    if (op.lane != Lane::compute && !(op.lane == Lane::comm && exchange)) {
      return false;
    }
    const std::set<int> unique(op.waits.begin(), op.waits.end());
    if (!std::equal(unique.begin(), unique.end(), op.waits.begin(), op.waits.end())) {
      return false;  // not ascending, or twice
    }
    if (!unique.empty() && (*unique.begin() < 0 || *unique.rbegin() >= i)) {
      return false;
    }
  }
  return ops == expected_ops(schedule);
}

bool oracle_accepts(const Schedule& schedule) {
  if (schedule.num_ubatches < 1 || schedule.num_ubatches > 8 || schedule.num_groups < 1 ||
      schedule.num_groups > 8 || !structure_holds(schedule)) {
    return false;
  }
  // Of each op those that are done before it: what it waits for, the op before it in its lane, and
  // what is done before these. All of them stand ahead of it.
  const std::size_t n = schedule.ops.size();
  testing::OpSets before(n);
  std::map<Lane, std::size_t> last;
  for (std::size_t i = 0; i < n; ++i) {
    const auto add = [&](std::size_t op) {
      before[i].set(op);
      before[i] |= before[op];
    };
    for (const int wait : schedule.ops[i].waits) {
      add(static_cast<std::size_t>(wait));
    }
    const auto [in_lane, is_first] = last.try_emplace(schedule.ops[i].lane, i);
    if (!is_first) {
      add(std::exchange(in_lane->second, i));
    }
  }
  for (std::size_t a = 0; a < n; ++a) {
    for (std::size_t b = 0; b < n; ++b) {
      if (a == b || before[b][a]) {
        continue;
      }
      const bool both_exchange =
          is_exchange(schedule.ops[a].phase) && is_exchange(schedule.ops[b].phase);
      if ((both_exchange && a < b) || must_precede(schedule, schedule.ops[a], schedule.ops[b])) {
        return false;
      }
    }
  }
  return true;
}

/// The ops in a new order (new position -> old), waits following the ops that they name; a wait
/// that names a deleted op goes.
Schedule reordered(const Schedule& schedule, const std::vector<int>& order) {
  std::map<int, int> new_index;
  for (std::size_t i = 0; i < order.size(); ++i) {
    new_index.emplace(order[i], static_cast<int>(i));
  }
  Schedule out = schedule;
  out.ops.clear();
  for (const int old : order) {
    Op op = schedule.ops[static_cast<std::size_t>(old)];
    std::vector<int> waits;
    for (const int wait : op.waits) {
      if (new_index.count(wait) != 0) {
        waits.push_back(new_index[wait]);
      }
    }
    std::sort(waits.begin(), waits.end());
    op.waits = waits;
    out.ops.push_back(op);
  }
  return out;
}

using Visit = std::function<void(const std::string&, const Schedule&)>;

void for_each_reordering(const Schedule& schedule, std::mt19937_64& random, const Visit& visit) {
  const int n = static_cast<int>(schedule.ops.size());
  std::vector<int> identity(static_cast<std::size_t>(n));
  for (int i = 0; i < n; ++i) {
    identity[static_cast<std::size_t>(i)] = i;
  }
  for (int i = 0; i < n; ++i) {
    auto order = identity;
    order.erase(order.begin() + i);
    visit("delete", reordered(schedule, order));
    order = identity;
    order.insert(order.begin() + static_cast<int>(random() % static_cast<std::uint64_t>(n + 1)), i);
    visit("duplicate", reordered(schedule, order));
    for (const int j : {i + 1, static_cast<int>(random() % static_cast<std::uint64_t>(n))}) {
      if (j < n && j != i) {
        order = identity;
        std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(j)]);
        visit("swap", reordered(schedule, order));
        Schedule raw = schedule;  // the waits stay numbers and now name other ops
        std::swap(raw.ops[static_cast<std::size_t>(i)], raw.ops[static_cast<std::size_t>(j)]);
        visit("raw swap", raw);
      }
    }
  }
}

void for_each_field_change(const Schedule& schedule, std::mt19937_64& random, const Visit& visit) {
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    const auto changed = [&](const std::string& name, const std::function<void(Op&)>& change) {
      Schedule out = schedule;
      change(out.ops[i]);
      visit(name, out);
    };
    for (std::size_t w = 0; w < schedule.ops[i].waits.size(); ++w) {
      changed("drop wait",
              [w](Op& op) { op.waits.erase(op.waits.begin() + static_cast<std::ptrdiff_t>(w)); });
    }
    changed("move lane",
            [](Op& op) { op.lane = op.lane == Lane::comm ? Lane::compute : Lane::comm; });
    changed("move lane, no waits", [](Op& op) {
      op.lane = op.lane == Lane::comm ? Lane::compute : Lane::comm;
      op.waits.clear();
    });
    changed("random wait", [&](Op& op) {
      op.waits = {static_cast<int>(random() % (schedule.ops.size() + 2)) - 1};
    });
    changed("layer", [](Op& op) { ++op.layer; });
    changed("ubatch", [](Op& op) { --op.ubatch; });
    changed("phase", [](Op& op) { op.phase = static_cast<Phase>(static_cast<int>(op.phase) + 1); });
    changed("group", [](Op& op) { ++op.group; });
    changed("earlier group", [](Op& op) { --op.group; });
  }
}

TEST(ScheduleCheck, JudgesEveryMutationAsTheOracleDoes) {
  std::mt19937_64 random(testing::fresh_seed());
  std::map<std::string, std::pair<int, int>> caught_and_harmless;
  for (const auto& layers : testing::layer_mixes()) {
    for (const auto& schedule : testing::all_policy_schedules(layers)) {
      const bool is_long = schedule.num_ubatches > 3 || schedule.ops.size() > 60;
      if ((is_long && layers.size() > 1) || (testing::kSanitized && schedule.ops.size() > 16)) {
        continue;  // the oracle is slow
      }
      ASSERT_TRUE(oracle_accepts(schedule)) << schedule.name;
      const Visit judge = [&](const std::string& name, const Schedule& mutant) {
        const bool accepted = schedule_errors(mutant).empty();
        ASSERT_EQ(accepted, oracle_accepts(mutant)) << name << " of " << schedule.name;
        auto& counts = caught_and_harmless[name];
        ++(accepted ? counts.second : counts.first);
      };
      for_each_reordering(schedule, random, judge);
      for_each_field_change(schedule, random, judge);
    }
  }
  for (const char* never_harmless :
       {"delete", "duplicate", "drop wait", "layer", "phase", "group", "earlier group"}) {
    EXPECT_GT(caught_and_harmless[never_harmless].first, 0) << never_harmless;
    EXPECT_EQ(caught_and_harmless[never_harmless].second, 0) << never_harmless;
  }
  for (const char* sometimes : {"swap", "raw swap", "move lane", "random wait"}) {
    EXPECT_GT(caught_and_harmless[sometimes].first, 0) << sometimes;
    EXPECT_GT(caught_and_harmless[sometimes].second, 0) << sometimes;
  }
}

TEST(ScheduleCheck, AcceptsRandomLegalSchedulesAndJudgesTheirMutants) {
  std::mt19937_64 random(testing::fresh_seed());
  int harmless = 0;
  for (int i = 0; i < 150; ++i) {
    const Schedule schedule = testing::random_schedule(random);
    ASSERT_EQ(schedule_errors(schedule), std::vector<std::string>{});
    for (int j = 0; j < 20; ++j) {
      Schedule mutant = schedule;
      Op& op = mutant.ops[random() % mutant.ops.size()];
      if (!op.waits.empty() && random() % 2 == 0) {
        op.waits.erase(op.waits.begin());
      } else {
        std::swap(op, mutant.ops[random() % mutant.ops.size()]);
      }
      const bool accepted = schedule_errors(mutant).empty();
      ASSERT_EQ(accepted, oracle_accepts(mutant));
      harmless += accepted ? 1 : 0;
    }
  }
  EXPECT_GT(harmless, 0);
}

TEST(ScheduleCheck, SurvivesHostileLists) {
  Schedule schedule{"hostile", 2'000'000'000, {kMoe}, {}};
  EXPECT_EQ(schedule_errors(schedule).size(), 1U);
  schedule.num_ubatches = -1;
  EXPECT_EQ(schedule_errors(schedule).size(), 1U);
  schedule.num_ubatches = 1;
  EXPECT_EQ(schedule_errors(schedule).size(), 7U) << "every op is missing";
  for (const int groups : {2'000'000'000, 9, 0, -1}) {
    schedule.num_groups = groups;
    EXPECT_EQ(schedule_errors(schedule).size(), 1U) << groups;
  }
  schedule.num_groups = 3;
  EXPECT_EQ(schedule_errors(schedule).size(), 7U + 3U * 2U) << "every op is missing";
  schedule.num_groups = 1;
  schedule.ops = {{2'147'483'647, 0, Phase::attention, Lane::compute, {}},
                  {-2'147'483'647, 0, Phase::attention, Lane::compute, {}},
                  {0, 2'147'483'647, Phase::attention, Lane::compute, {}},
                  {0, -1, Phase::attention, Lane::compute, {}},
                  {0, 0, static_cast<Phase>(99), Lane::compute, {}},
                  {0, 0, static_cast<Phase>(-1), Lane::compute, {}},
                  {0, 0, Phase::mlp, Lane::compute, {}},
                  {0, 0, Phase::embed, Lane::compute, {}},
                  {0, 0, Phase::dispatch, static_cast<Lane>(7), {}},
                  {0, 0, Phase::attention, Lane::comm, {-5, 9, 2'147'483'647}}};
  const auto errors = schedule_errors(schedule);
  EXPECT_EQ(errors.size(), 8U + 1U + 1U + 3U + 5U);
}

TEST(ScheduleCheck, NamesTheOpsOfABrokenDependency) {
  Schedule schedule = policies().at("dual_batch").make_schedule({{{kMoe}}, WorkPhase::prefill, 2});
  schedule.ops[8].waits.clear();  // experts of ubatch 0
  const auto errors = schedule_errors(schedule);
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_EQ(errors[0],
            "op 8 (experts, layer 0, ubatch 0) can start before op 3 (dispatch, layer 0, ubatch 0) "
            "is done, whose result it needs");
  EXPECT_EQ(testing::input_error_of([&] { check_schedule(schedule); }),
            "schedule 'dual_batch' is wrong: " + errors[0]);
}

TEST(ScheduleCheck, NamesTheGroupOfABrokenDependency) {
  const auto make = [](int num_ubatches) {
    return policies()
        .at("expert_groups")
        .make_schedule({{{kMoe}}, WorkPhase::prefill, num_ubatches, {}, 2});
  };
  // embed, attention, route, dispatch g0, g1, experts g0, combine g0, experts g1, combine g1
  Schedule schedule = make(1);
  schedule.ops[7].waits.clear();
  EXPECT_EQ(schedule_errors(schedule),
            std::vector<std::string>{
                "op 7 (experts, layer 0, ubatch 0, group 1) can start before op 4 (dispatch, layer "
                "0, ubatch 0, group 1) is done, whose result it needs"});
  schedule = make(1);
  std::swap(schedule.ops[3].group, schedule.ops[4].group);  // group 1 is sent first
  EXPECT_FALSE(schedule_errors(schedule).empty());
  schedule = make(1);
  std::swap(schedule.ops[5].group, schedule.ops[7].group);  // and computed first
  EXPECT_FALSE(schedule_errors(schedule).empty());
  schedule = make(1);
  schedule.ops.pop_back();  // output
  schedule.ops.pop_back();
  const auto errors = schedule_errors(schedule);
  ASSERT_EQ(errors.size(), 2U);
  EXPECT_EQ(errors[1], "combine of group 1 of layer 0 of ubatch 0 is missing");
  schedule = make(2);
  schedule.ops[3].group = kNoGroup;
  EXPECT_EQ(schedule_errors(schedule).size(), 2U) << "no such op, and one is missing";
}

TEST(ScheduleCheck, RefusesExchangesThatLanesDoNotOrder) {
  Schedule schedule = policies().at("dual_batch").make_schedule({{{kMoe}}, WorkPhase::prefill, 2});
  schedule.ops[3].lane = Lane::compute;  // dispatch of ubatch 0; that of ubatch 1 stays on comm
  schedule.ops[3].waits.clear();
  schedule.ops[8].waits.clear();
  EXPECT_TRUE(schedule_errors(schedule).empty()) << "ordered by route of ubatch 1";
  std::swap(schedule.ops[8], schedule.ops[10]);  // experts and combine of ubatch 1 first
  std::swap(schedule.ops[9], schedule.ops[11]);
  schedule.ops[9].waits = {8};
  schedule.ops[11].waits = {10};
  schedule.ops[12].waits = {11};
  schedule.ops[13].waits = {9};
  EXPECT_TRUE(schedule_errors(schedule).empty());
  schedule.ops[9].lane = Lane::compute;
  schedule.ops[9].waits.clear();
  schedule.ops[11].waits.clear();
  EXPECT_FALSE(schedule_errors(schedule).empty()) << "combine of ubatch 0 waits for nothing";
}

}  // namespace
}  // namespace dovetail
