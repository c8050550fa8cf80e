// What a rank's memory holds of the exchange and of what experts return.
#include "framework/run/rank_memory.hpp"

#include <string>

#include <gtest/gtest.h>

#include "framework/plan/policy.hpp"
#include "framework/run/capabilities.hpp"
#include "framework/run/memory_fit.hpp"
#include "tests/unit/run/fake_architecture.hpp"

namespace dovetail {
namespace {

using testing::fake_architectures;
using testing::fake_experiment;

/// Each further group adds one.
std::int64_t most_of(const Schedule& schedule) {
  return most_output_bytes(schedule, [](int last_group) { return last_group + 1; });
}

Op experts_op(int ubatch, int group) {
  return {.layer = 0, .ubatch = ubatch, .phase = Phase::experts, .waits = {}, .group = group};
}

TEST(MostOutputBytes, AreThoseOfAllGroupsOfAUbatch) {
  const ModelShape model = {{{true, false}, {true, true}}};
  const auto schedule = [&](const std::string& policy, int ubatches, int groups) {
    return policies().at(policy).make_schedule(
        {.model = model, .num_ubatches = ubatches, .num_groups = groups});
  };
  EXPECT_EQ(most_of(schedule("sequential", 1, 1)), 1);
  EXPECT_EQ(most_of(schedule("dual_batch", 3, 1)), 1);
  EXPECT_EQ(most_of(schedule("expert_groups", 1, 4)), 4);
  EXPECT_EQ(most_of(schedule("expert_groups", 3, 4)), 4) << "one ubatch after the other";
  EXPECT_EQ(most_of({.name = "dense", .layers = {}, .ops = {}}), 0);
}

/// As a schedule file may be: the groups of one ubatch between those of another.
TEST(MostOutputBytes, AddUpWhereUbatchesAreBetweenTheirGroups) {
  Schedule schedule = {.name = "mine", .num_ubatches = 2, .layers = {}, .ops = {}, .num_groups = 3};
  schedule.ops = {experts_op(0, 0), experts_op(0, 1), experts_op(1, 0), experts_op(1, 1)};
  EXPECT_EQ(most_of(schedule), 4);
  schedule.ops.push_back(experts_op(0, 2));
  EXPECT_EQ(most_of(schedule), 5);
  schedule.ops.push_back(experts_op(1, 2));
  EXPECT_EQ(most_of(schedule), 5) << "what the first one held is gone";
}

std::int64_t output_bytes(const std::string& device, const std::string& policy) {
  const auto run =
      check_run(fake_experiment("workload: {phase: prefill, requests: {lengths: [20, 8, 12]}}\n"
                                "parallel: {expert_parallel: 2}\n"
                                "execution: {dtype: bfloat16, device: " +
                                device + ", exchange: auto}\npolicies: [{" + policy + "}]\n"),
                2,
                {fake_architectures(), {}},
                planning_capabilities({"fake"}));
  for (const auto& part : rank_memory(run, 0)) {
    if (part.name == "experts' outputs (worst case)") {
      return part.bytes;
    }
  }
  ADD_FAILURE() << "not counted";
  return 0;
}

/// Rows of 16 elements, of 40 tokens of each of two ranks; two of the four experts of a rank each.
TEST(RankMemory, CountsWhatTheExpertsOfAllGroupsReturn) {
  const std::int64_t rows = std::int64_t{2} * 40 * 2 * 32;
  for (const std::string device : {"cpu", "cuda"}) {
    EXPECT_EQ(output_bytes(device, "name: sequential"), rows) << device;
    EXPECT_EQ(output_bytes(device, "name: dual_batch"), rows / 2) << device;
  }
  // Host ranks get the rows that there are: each token's choices are those of some group.
  EXPECT_EQ(output_bytes("cpu", "name: expert_groups, groups: 2"), rows);
  EXPECT_EQ(output_bytes("cpu", "name: expert_groups, groups: 4"), rows);
  // Tensors on GPUs have room for the worst routing, each: a group's two experts can be all choices
  // of a token, one expert can be one of them.
  EXPECT_EQ(output_bytes("cuda", "name: expert_groups, groups: 2"), 2 * rows);
  EXPECT_EQ(output_bytes("cuda", "name: expert_groups, groups: 4"), 2 * rows);
  EXPECT_EQ(output_bytes("cuda", "name: expert_groups, groups: 2, ubatches: 2"), rows);
}

/// A grid whose ranks have fewer experts than groups would be refused.
TEST(MemoryFit, LargerGridsHaveAnExpertForEachGroup) {
  const auto fit_of = [](const std::string& policy) {
    const auto run =
        check_run(fake_experiment("workload: {phase: prefill, requests: {lengths: [20, 7]}}\n"
                                  "execution: {dtype: bfloat16, device: cuda}\npolicies: [{" +
                                  policy + "}]\n"),
                  1,
                  {fake_architectures(), {}},
                  planning_capabilities({"fake"}));
    return fit_memory(run, 1000).front().tried_expert_parallel;
  };
  EXPECT_EQ(fit_of("name: sequential"), 8);
  EXPECT_EQ(fit_of("name: expert_groups, groups: 4"), 2);
}

}  // namespace
}  // namespace dovetail
