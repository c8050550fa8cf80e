// Random stage lists, which must all be proven and give the same results, and what is done to them,
// which must be refused or proven.
#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/config/schedule_rules.hpp"
#include "framework/exec/runner.hpp"
#include "framework/exec/simulated_executor.hpp"
#include "framework/plan/policy.hpp"
#include "framework/plan/schedule_check.hpp"
#include "framework/plan/stages.hpp"
#include "tests/unit/exec/recording_body.hpp"
#include "tests/unit/plan/random_schedule.hpp"
#include "tests/unit/plan/stage_lists.hpp"

namespace dovetail {
namespace {

using testing::dual_batch_lists;
using testing::kDense;
using testing::kMoe;
using testing::kShared;
using testing::Names;
using testing::RecordingBody;
using testing::stage;
using testing::staged;

StageList random_cuts(std::mt19937_64& random, const std::vector<StagePhase>& phases) {
  StageList list(1);
  for (const auto& phase : phases) {
    for (auto cuts = random() % 3; cuts > 1; --cuts) {
      list.emplace_back();
    }
    list.back().push_back(phase);
  }
  for (auto cuts = random() % 3; cuts > 0; --cuts) {
    list.emplace_back();
  }
  return list;
}

/// With groups: sometimes one by one, each group's dispatch, experts and combine in a row.
StagesConfig random_stages(std::mt19937_64& random, int num_groups = 1) {
  auto moe = stage({"attention", "route", "dispatch", "experts", "combine"});
  if (num_groups > 1 && random() % 2 == 0) {
    moe.resize(2);
    for (int group = 0; group < num_groups; ++group) {
      for (const std::string name : {"dispatch", "experts", "combine"}) {
        moe.push_back({name + " g" + std::to_string(group), ""});
      }
    }
  }
  moe.insert(moe.begin() + 2 + static_cast<std::ptrdiff_t>(random() % 4), {"shared_experts", ""});
  for (auto& item : moe) {
    if (item.phase.starts_with("dispatch") || item.phase.starts_with("combine")) {
      item.lane = Names{"", "comm", "compute"}.at(random() % 3);
    }
  }
  return {"",
          random_cuts(random, moe),
          random_cuts(random, stage({"attention", "mlp"})),
          static_cast<int>(random() % 5)};
}

std::vector<LayerShape> random_layers(std::mt19937_64& random) {
  std::vector<LayerShape> layers;
  for (auto left = random() % 5; left > 0; --left) {
    layers.push_back(std::vector{kDense, kMoe, kShared}.at(random() % 3));
  }
  return layers;
}

std::array<std::uint64_t, kMaxUbatches> results_of(const Schedule& schedule) {
  SimulatedExecutor executor([](const Op& op) { return 1.0 + static_cast<double>(op.phase); },
                             {.compute_contention = 1.5, .comm_contention = 2.0});
  Runner runner(executor, {.hand_off = HandOff::inline_walk});
  RecordingBody body(schedule);
  runner.run(schedule, body);
  return body.result();
}

TEST(Staged, RandomListsAreProvenAndGiveTheSameResults) {
  std::mt19937_64 random(testing::fresh_seed());
  for (int round = 0; round < 600; ++round) {
    const auto layers = random_layers(random);
    const int n = 1 + static_cast<int>(random() % kMaxUbatches);
    const int groups = 1 + static_cast<int>(random() % kMaxGroups);
    const auto stages = random_stages(random, groups);
    ASSERT_FALSE(find_stages_problem(stages, groups));
    const auto schedule = staged(layers, n, stages, WorkPhase::prefill, groups);
    ASSERT_EQ(schedule_errors(schedule), Names{}) << "round " << round;
    auto expected =
        policies().at("expert_groups").make_schedule({{layers}, WorkPhase::prefill, n, {}, groups});
    EXPECT_EQ(results_of(schedule), results_of(expected)) << "round " << round;
  }
}

/// The results tell when an order is violated.
TEST(Staged, ResultsDependOnTheOrderOfAttentions) {
  auto schedule = staged({kMoe}, 2, dual_batch_lists());
  const auto expected = results_of(schedule);
  for (auto& op : schedule.ops) {
    op.ubatch = op.phase == Phase::attention ? 1 - op.ubatch : op.ubatch;
    op.waits.clear();
  }
  EXPECT_FALSE(schedule_errors(schedule).empty());
  EXPECT_NE(results_of(schedule), expected);
}

/// Whatever is done to lists: a problem is found, or the schedule is proven.
TEST(Stages, MutationsAreRefusedOrProven) {
  std::mt19937_64 random(testing::fresh_seed());
  int refused = 0;
  const int rounds = 3000;
  for (int round = 0; round < rounds; ++round) {
    const int groups = 1 + static_cast<int>(random() % 3);
    auto stages = random_stages(random, groups);
    auto& list = random() % 4 == 0 ? stages.dense : stages.moe;
    auto& one = list[random() % list.size()];
    switch (random() % 4) {
      case 0:
        list.erase(list.begin() + static_cast<std::ptrdiff_t>(random() % list.size()));
        break;
      case 1:
        std::swap(list[random() % list.size()], list[random() % list.size()]);
        break;
      case 2:
        one.push_back({std::string(to_string(static_cast<Phase>(random() % kNumPhases))), ""});
        break;
      default:
        if (!one.empty()) {
          one[random() % one.size()].lane = Names{"comm", "compute", "gpu"}.at(random() % 3);
        }
    }
    const auto problem = find_stages_problem(stages, groups);
    refused += problem ? 1 : 0;
    const auto make = [&] {
      return staged({kDense, kMoe, kMoe}, 3, stages, WorkPhase::prefill, groups);
    };
    if (problem) {
      EXPECT_THROW(make(), InputError);
    } else {
      EXPECT_EQ(schedule_errors(make()), Names{});
    }
  }
  EXPECT_GT(refused, rounds / 10);
  EXPECT_LT(refused, rounds - rounds / 10);
}

}  // namespace
}  // namespace dovetail
