// The digest by which ranks compare their schedules: each change of an op changes it.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "framework/plan/schedule_check.hpp"
#include "tests/support/sanitized.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

TEST(ScheduleDigest, IsEqualForEqualSchedulesOnly) {
  const std::vector<std::function<void(Op&)>> changes = {
      [](Op& op) { ++op.layer; },
      [](Op& op) { ++op.ubatch; },
      [](Op& op) { op.phase = op.phase == Phase::mlp ? Phase::embed : Phase::mlp; },
      [](Op& op) { op.lane = op.lane == Lane::comm ? Lane::compute : Lane::comm; },
      [](Op& op) { op.waits.push_back(7); }};
  std::set<std::uint64_t> digests;
  int count = 0;
  for (const auto& layers : testing::layer_mixes()) {
    for (const auto& schedule : testing::all_policy_schedules(layers)) {
      const std::uint64_t digest = schedule_digest(schedule);
      digests.insert(digest);
      ++count;
      Schedule changed = schedule;
      EXPECT_EQ(schedule_digest(changed), digest);
      if (testing::kSanitized && schedule.ops.size() > 60) {
        continue;
      }
      for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
        for (const auto& change : changes) {
          change(changed.ops[i]);
          EXPECT_NE(schedule_digest(changed), digest) << schedule.name << ", op " << i;
          changed.ops[i] = schedule.ops[i];
        }
        if (schedule.num_groups > 1) {
          ++changed.ops[i].group;
          EXPECT_NE(schedule_digest(changed), digest) << schedule.name << ", group of op " << i;
          changed.ops[i] = schedule.ops[i];
        }
      }
    }
  }
  EXPECT_EQ(digests.size(), static_cast<std::size_t>(count));
}

}  // namespace
}  // namespace dovetail
