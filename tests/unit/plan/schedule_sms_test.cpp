// Where the exchange runs beside compute, against all pairs of ops, and what `auto` makes of it.
#include "framework/plan/schedule_sms.hpp"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "framework/plan/policy.hpp"
#include "tests/unit/plan/op_set.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

/// From the definition: no order of an exchange of the comm lane and an op of compute follows from
/// lanes and waits, step by step.
bool slow_beside_compute(const Schedule& schedule) {
  const std::size_t n = schedule.ops.size();
  testing::OpSets behind(n);
  for (std::size_t j = 0; j < n; ++j) {
    for (std::size_t i = 0; i < j; ++i) {
      const auto& waits = schedule.ops[j].waits;
      behind[i].set(j,
                    schedule.ops[i].lane == schedule.ops[j].lane ||
                        std::find(waits.begin(), waits.end(), static_cast<int>(i)) != waits.end());
    }
  }
  for (std::size_t k = 0; k < n; ++k) {
    for (auto& own : behind) {
      if (own[k]) {
        own |= behind[k];
      }
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      if (schedule.ops[i].lane == Lane::comm && !is_exchange(schedule.ops[j].phase) &&
          !behind[i][j] && !behind[j][i]) {
        return true;
      }
    }
  }
  return false;
}

TEST(ScheduleSms, AnExchangeRunsBesideComputeWhereNothingOrdersThem) {
  std::mt19937_64 random(testing::fresh_seed());
  int beside = 0;
  int alone = 0;
  const auto look = [&](const Schedule& schedule) {
    const bool expected = slow_beside_compute(schedule);
    ASSERT_EQ(exchanges_beside_compute(schedule), expected) << schedule.name;
    ++(expected ? beside : alone);
  };
  for (const auto& layers : testing::layer_mixes()) {
    for (const auto& schedule : testing::all_policy_schedules(layers)) {
      look(schedule);
    }
  }
  for (int i = 0; i < 200; ++i) {
    look(testing::random_lean_schedule(random));
    // Waits in a row: some of them order all exchanges.
    auto ordered = testing::random_schedule(random);
    for (std::size_t j = 1; j < ordered.ops.size(); ++j) {
      if (random() % 16 != 0) {
        auto& waits = ordered.ops[j].waits;
        waits.push_back(static_cast<int>(j) - 1);
        std::sort(waits.begin(), waits.end());
        waits.erase(std::unique(waits.begin(), waits.end()), waits.end());
      }
    }
    look(ordered);
  }
  EXPECT_GT(beside, 20);
  EXPECT_GT(alone, 20);
}

Schedule schedule_of(const std::string& policy, int ubatches, int groups, bool shared = false) {
  const ModelShape model = {{shared ? testing::kShared : testing::kMoe, testing::kDense}};
  return policies().at(policy).make_schedule({.model = model,
                                              .phase = WorkPhase::prefill,
                                              .num_ubatches = ubatches,
                                              .num_groups = groups});
}

TEST(ScheduleSms, AutoBoundsTheExchangeOnlyBesideCompute) {
  const auto automatic = [](const Schedule& schedule) {
    return schedule_sms(std::nullopt, schedule);
  };
  const auto plain = schedule_of("sequential", 1, 1);
  const auto dual = schedule_of("dual_batch", 2, 1);
  EXPECT_EQ(automatic(plain), kAllSms);
  EXPECT_EQ(automatic(dual), 8);
  EXPECT_EQ(automatic(schedule_of("expert_groups", 1, 2)), 8);
  EXPECT_EQ(automatic(schedule_of("shared_expert", 1, 1, true)), 8);
  EXPECT_EQ(automatic(schedule_of("shared_expert", 1, 1)), kAllSms)
      << "without shared experts nothing runs beside the exchange";
  EXPECT_EQ(schedule_sms(16, plain), 16);
  EXPECT_EQ(schedule_sms(16, dual), 16);

  auto in_turn = dual;  // a schedule that has two lanes and leaves nothing open
  for (std::size_t i = 1; i < in_turn.ops.size(); ++i) {
    in_turn.ops[i].waits = {static_cast<int>(i) - 1};
  }
  EXPECT_EQ(automatic(in_turn), kAllSms);
  in_turn.ops.back().waits.clear();
  EXPECT_EQ(automatic(in_turn), slow_beside_compute(in_turn) ? 8 : kAllSms);
}

}  // namespace
}  // namespace dovetail
