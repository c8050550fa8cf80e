// Stage lists: orders of the presets, and the rules of lists of one's own.
#include <algorithm>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/config/schedule_rules.hpp"
#include "framework/exec/simulated_executor.hpp"
#include "framework/plan/policies/automatic.hpp"
#include "framework/plan/policy.hpp"
#include "framework/plan/schedule_check.hpp"
#include "framework/plan/stages.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/plan/random_schedule.hpp"
#include "tests/unit/plan/stage_lists.hpp"

namespace dovetail {
namespace {

using testing::dual_batch_lists;
using testing::kDense;
using testing::kMoe;
using testing::kNoCut;
using testing::kShared;
using testing::Names;
using testing::stage;
using testing::staged;

StagesConfig preset(const std::string& name) {
  StagesConfig stages;
  stages.preset = name;
  return stages;
}

/// Turns: what a ubatch enqueues before another has the baton, "0: attention0 route0 [dispatch0]".
Names turns(const Schedule& schedule) {
  Names all;
  int ubatch = -1;
  for (const auto& op : schedule.ops) {
    std::string name(to_string(op.phase));
    name += op.layer == kNoLayer ? "" : std::to_string(op.layer);
    name += op.group == kNoGroup ? "" : "g" + std::to_string(op.group);
    name = op.lane == Lane::comm ? "[" + name + "]" : name;
    if (op.ubatch != ubatch) {
      all.push_back(std::to_string(op.ubatch) + ":");
    }
    ubatch = op.ubatch;
    all.back() += " " + name;
  }
  return all;
}

TEST(Staged, WithTheCutsOfDualBatchIsDualBatch) {
  for (const auto& layers : testing::layer_mixes()) {
    for (int n = 2; n <= kMaxUbatches; ++n) {
      const auto expected =
          policies().at("dual_batch").make_schedule({{layers}, WorkPhase::prefill, n});
      EXPECT_EQ(staged(layers, n, dual_batch_lists()).ops, expected.ops);
      // The preset differs in the place of the shared experts only.
      const bool shared = std::count(layers.begin(), layers.end(), kShared) > 0;
      EXPECT_EQ(staged(layers, n, preset("prefill")).ops == expected.ops, !shared);
    }
  }
  auto other = dual_batch_lists();
  other.moe.pop_back();
  EXPECT_NE(staged({kMoe, kMoe}, 2, other).ops, staged({kMoe, kMoe}, 2, dual_batch_lists()).ops);
}

/// A name without a group is all of them, experts and combine group by group.
TEST(Staged, WithTheCutsOfExpertGroupsIsExpertGroups) {
  for (const auto& layers : testing::layer_mixes()) {
    for (const auto& [ubatches, groups] : {std::pair{2, 2}, {2, 8}, {5, 3}}) {
      const auto expected =
          policies()
              .at("expert_groups")
              .make_schedule({{layers}, WorkPhase::prefill, ubatches, {}, groups});
      const auto made = staged(layers, ubatches, dual_batch_lists(), WorkPhase::prefill, groups);
      EXPECT_EQ(made.ops, expected.ops);
      EXPECT_EQ(made.num_groups, groups);
    }
  }
}

TEST(Staged, AStageMayNameAGroup) {
  auto lists = dual_batch_lists();
  lists.moe = {stage({"attention", "route", "dispatch g0"}),
               stage({"dispatch g1", "experts g0"}),
               stage({"combine g0", "experts g1", "combine g1"}),
               {}};
  EXPECT_EQ(turns(staged({kMoe}, 2, lists, WorkPhase::prefill, 2)),
            (Names{"0: embed attention0 route0 [dispatch0g0]",
                   "1: embed attention0 route0 [dispatch0g0]",
                   "0: [dispatch0g1] experts0g0",
                   "1: [dispatch0g1] experts0g0",
                   "0: [combine0g0] experts0g1 [combine0g1]",
                   "1: [combine0g0] experts0g1 [combine0g1]",
                   "0: output",
                   "1: output"}));
  // A dispatch is behind the one before and the names that stand for all come one by one.
  lists.moe = {stage({"attention", "route", "dispatch", "experts"}), stage({"combine"}), {}};
  EXPECT_EQ(turns(staged({kMoe}, 1, lists, WorkPhase::prefill, 2)),
            (Names{"0: embed attention0 route0 [dispatch0g0] [dispatch0g1] experts0g0 experts0g1 "
                   "[combine0g0] [combine0g1] output"}));
}

TEST(Staged, PrefillRunsSharedExpertsBesideTheOtherCombine) {
  EXPECT_EQ(turns(staged({kShared, kDense}, 2, preset("prefill"))),
            (Names{"0: embed attention0 route0 [dispatch0]",
                   "1: embed attention0 route0 [dispatch0]",
                   "0: experts0 [combine0]",
                   "1: experts0 [combine0]",
                   "0: shared_experts0 attention1 mlp1 output",
                   "1: shared_experts0 attention1 mlp1 output"}));
}

TEST(Staged, DecodeAlternatesAttentionAndExperts) {
  EXPECT_EQ(turns(staged({kShared, kMoe, kMoe}, 2, preset("decode"))),
            (Names{"0: embed attention0 route0 [dispatch0] shared_experts0 experts0 [combine0]",
                   "1: embed attention0 route0 [dispatch0] shared_experts0",
                   "0: attention1 route1 [dispatch1]",
                   "1: experts0 [combine0]",
                   "0: experts1 [combine1]",
                   "1: attention1 route1 [dispatch1]",
                   "0: attention2 route2 [dispatch2]",
                   "1: experts1 [combine1]",
                   "0: experts2 [combine2]",
                   "1: attention2 route2 [dispatch2]",
                   "0: output",
                   "1: experts2 [combine2] output"}));
}

TEST(Staged, TakesThePresetOfThePhaseOfWork) {
  const std::vector<LayerShape> layers = {kMoe, kShared};
  const auto made = [&](WorkPhase phase) { return staged(layers, 2, std::nullopt, phase).ops; };
  EXPECT_EQ(made(WorkPhase::prefill), staged(layers, 2, preset("prefill")).ops);
  EXPECT_EQ(made(WorkPhase::mixed), staged(layers, 2, preset("prefill")).ops);
  EXPECT_EQ(made(WorkPhase::decode), staged(layers, 2, preset("decode")).ops);
  EXPECT_NE(made(WorkPhase::decode), made(WorkPhase::prefill));
}

TEST(Staged, EveryPresetIsProven) {
  for (const auto& layers : testing::layer_mixes()) {
    for (const auto& description : stage_presets()) {
      EXPECT_FALSE(description.summary.empty());
      for (int n = 1; n <= kMaxUbatches; ++n) {
        EXPECT_EQ(schedule_errors(staged(layers, n, preset(description.name))), Names{});
      }
    }
  }
}

TEST(Staged, ADeltaBeyondTheStagesRunsUbatchesOneByOne) {
  auto stages = dual_batch_lists();
  stages.delta = 7;  // 2 layers are 5 stages
  const auto schedule = staged({kMoe, kMoe}, 3, stages);
  EXPECT_EQ(schedule_errors(schedule), Names{});
  EXPECT_EQ(turns(schedule).size(), 3U);
}

TEST(Staged, EmptyListsAreTurnsInWhichNothingIsEnqueued) {
  auto stages = dual_batch_lists();
  stages.moe.insert(stages.moe.begin() + 1, std::vector<StagePhase>{});
  EXPECT_EQ(staged({kMoe, kShared}, 3, stages).ops,
            staged({kMoe, kShared}, 3, dual_batch_lists()).ops)
      << "without a head start they change nothing";
  auto late = dual_batch_lists();
  stages.delta = late.delta = 1;
  EXPECT_NE(staged({kMoe, kShared}, 3, stages).ops, staged({kMoe, kShared}, 3, late).ops);
}

/// Costs of one layer: attention and experts 100, exchanges `exchange`, the rest nothing.
double simulated_ns(const Schedule& schedule, double exchange) {
  const auto cost = [=](const Op& op) -> double {
    if (is_exchange(op.phase)) {
      return exchange;
    }
    return op.phase == Phase::attention || op.phase == Phase::experts ? 100 : 0;
  };
  return static_cast<double>(simulate(schedule, cost, {}).total_ns);
}

/// On the host executor a ubatch that needs rows waits in its own turn. With exchanges as long as
/// the compute of a stage, all but the first and the last ones run beside the other ubatch.
TEST(Staged, PresetsHideTheExchange) {
  const int num_layers = 20;
  const std::vector<LayerShape> layers(num_layers, kMoe);
  const double compute = 2 * num_layers * 200;
  EXPECT_EQ(simulated_ns(staged(layers, 2, preset("prefill")), 100), compute + 100);
  // The head start leaves ubatch 0 alone at the first dispatch, ubatch 1 at its last two exchanges.
  EXPECT_EQ(simulated_ns(staged(layers, 2, preset("decode")), 100), compute + 300);
  auto uncut = dual_batch_lists();
  uncut.moe.pop_back();  // the next attention stands right behind the combine that it waits for
  EXPECT_GT(simulated_ns(staged(layers, 2, uncut), 100), compute + num_layers * 100);
}

// ---- rules ----

struct BadStages {
  StageList moe;
  StageList dense;
  std::string place;
  std::string fragment;
};

TEST(Stages, RefuseListsThatBreakARule) {
  const auto full = dual_batch_lists().moe;
  const auto changed = [&](std::size_t i, const std::vector<StagePhase>& by) {
    auto moe = full;
    moe[i] = by;
    return moe;
  };
  const std::vector<BadStages> cases = {
      {changed(0, stage({"attention", "rout", "dispatch"})),
       kNoCut,
       "moe[0][1]",
       "unknown phase 'rout'; allowed: attention, route, dispatch, experts, combine, "
       "shared_experts"},
      {changed(0, stage({"embed", "attention", "route", "dispatch"})),
       kNoCut,
       "moe[0][0]",
       "phase 'embed' is none of these layers"},
      {full, {stage({"attention"}), stage({"route", "mlp"})}, "dense[1][0]", "phase 'route' is"},
      {changed(2, stage({"experts"})), kNoCut, "moe[2][0]", "experts is there twice"},
      {changed(0, stage({"attention", "dispatch", "route"})),
       kNoCut,
       "moe[0][1]",
       "dispatch comes before route, whose result it needs"},
      {changed(0, stage({"shared_experts", "attention", "route", "dispatch"})),
       kNoCut,
       "moe[0][0]",
       "shared_experts comes before route"},
      {full, {stage({"mlp", "attention"})}, "dense[0][0]", "mlp comes before attention"},
      {changed(1, stage({"experts"})),
       kNoCut,
       "moe",
       "combine is missing; needed, in this order: attention, route, dispatch, experts, combine"},
      {{}, kNoCut, "moe", "attention is missing"},
      {full, {}, "dense", "attention is missing; needed, in this order: attention, mlp"},
      {full, {stage({"attention"})}, "dense", "mlp is missing"},
      {changed(1, {{"experts", "comm"}, {"combine", ""}}),
       kNoCut,
       "moe[1][0]",
       "experts on the comm lane; allowed there: dispatch, combine"},
      {changed(1, {{"experts", ""}, {"combine", "com"}}),
       kNoCut,
       "moe[1][1]",
       "unknown lane 'com'; allowed: compute, comm"},
  };
  for (const auto& bad : cases) {
    const StagesConfig stages{"", bad.moe, bad.dense, 0};
    const auto problem = find_stages_problem(stages);
    ASSERT_TRUE(problem) << bad.fragment;
    EXPECT_EQ(problem->place, bad.place) << bad.fragment;
    EXPECT_TRUE(problem->message.starts_with(bad.fragment)) << problem->message;
    EXPECT_EQ(testing::input_error_of([&] { staged({kMoe}, 2, stages); }),
              "stages." + problem->place + ": " + problem->message)
        << bad.fragment;
  }
  EXPECT_FALSE(find_stages_problem(dual_batch_lists()));
}

TEST(Stages, RefuseGroupsThatAreNotThereOrOutOfOrder) {
  const auto problem_of = [](const Names& second, int num_groups = 2) {
    auto stages = dual_batch_lists();
    stages.moe[1] = stage(second);
    const auto problem = find_stages_problem(stages, num_groups);
    return problem ? problem->place + ": " + problem->message : "";
  };
  EXPECT_EQ(problem_of({"experts g0", "experts g1", "combine"}), "");
  EXPECT_EQ(problem_of({"experts g0", "combine g0", "experts g1", "combine g1"}), "");
  EXPECT_EQ(problem_of({"experts g0", "combine g0"}, 1), "") << "one group is all";
  EXPECT_EQ(problem_of({"experts g2", "combine"}),
            "moe[1][0]: group 'g2' of experts; allowed: g0 to g1");
  EXPECT_EQ(problem_of({"experts", "combine 1"}),
            "moe[1][1]: group '1' of combine; allowed: g0 to g1");
  EXPECT_EQ(problem_of({"experts g1", "combine"}, 1),
            "moe[1][0]: group 'g1' of experts; allowed: g0 (groups: 1)");
  EXPECT_EQ(problem_of({"experts", "combine", "shared_experts g0"}),
            "moe[1][2]: group 'g0' of shared_experts; allowed: of dispatch, experts and combine");
  EXPECT_EQ(problem_of({"experts g1", "experts g0", "combine"}),
            "moe[1][0]: experts g1 comes before experts g0; groups go in ascending order");
  EXPECT_EQ(problem_of({"experts g0", "combine", "experts g1"}),
            "moe[1][1]: combine g1 comes before experts g1, whose result it needs");
  EXPECT_EQ(problem_of({"experts", "experts g0", "combine"}),
            "moe[1][1]: experts g0 is there twice; allowed: once");
  EXPECT_EQ(problem_of({"experts g0", "combine g0"}),
            "moe: experts g1 is missing; needed, in this order: attention, route, dispatch, "
            "experts, combine");
}

TEST(Stages, RefuseUnknownPresetsAndDeltas) {
  EXPECT_EQ(find_stages_problem(preset("decod"))->message,
            "unknown preset 'decod'; known: prefill, decode, or stage lists {moe: [...], dense: "
            "[...], delta: n}");
  auto stages = dual_batch_lists();
  for (const int delta : {-1, kMaxStageDelta + 1}) {
    stages.delta = delta;
    EXPECT_EQ(find_stages_problem(stages)->place, "delta");
  }
  stages.delta = kMaxStageDelta;
  EXPECT_FALSE(find_stages_problem(stages));
}

TEST(Stages, MustNameTheSharedExpertsOfALayerThatHasThem) {
  auto stages = dual_batch_lists();
  stages.moe[1] = stage({"experts", "combine"});
  EXPECT_NO_THROW(staged({kMoe, kDense}, 2, stages));
  EXPECT_THROW(staged({kMoe, kShared}, 2, stages), InputError);
}

TEST(Automatic, HasACandidateOfTwoUbatches) {
  EXPECT_EQ(policies().at("auto").make_schedule, nullptr) << "it has no schedule of its own";
  EXPECT_EQ(&find_candidate("staged"), &policies().at("staged"));
  for (const char* bad : {"auto", "sequential", "shared_expert", "nothing"}) {
    const std::string message = testing::input_error_of([&] { find_candidate(bad); });
    EXPECT_TRUE(message.starts_with(std::string("policy auto cannot have '") + bad +
                                    "' as its candidate; allowed: "))
        << bad << ": " << message;
    EXPECT_EQ(message.find(bad, message.find("allowed")), std::string::npos) << message;
    EXPECT_NE(message.find("staged", message.find("allowed")), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace dovetail
