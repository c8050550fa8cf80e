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
  return most_output_bytes(schedule, [](int, int last_group) { return last_group + 1; });
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

TEST(MostOutputBytes, AreThoseOfTheLargestUbatch) {
  Schedule schedule = {.name = "mine", .num_ubatches = 2, .layers = {}, .ops = {}};
  schedule.ops = {experts_op(0, 0), experts_op(1, 0)};
  for (const int largest : {0, 1}) {
    const auto bytes = [&](int ubatch, int) { return ubatch == largest ? 30 : 10; };
    EXPECT_EQ(most_output_bytes(schedule, bytes), 30) << largest;
  }
}

struct Question {
  std::string device;
  std::string policies;
  std::string more = "";
  std::string execution = "exchange: auto";
  /// 40 tokens a rank.
  std::string workload = "phase: prefill, requests: {lengths: [20, 8, 12]}";
};

/// Of two ranks of one group.

std::int64_t bytes_of(const std::string& part, const Question& asked) {
  const auto run =
      check_run(fake_experiment("workload: {" + asked.workload +
                                "}\nparallel: {expert_parallel: 2}\n"
                                "execution: {dtype: bfloat16, device: " +
                                asked.device + ", " + asked.execution + "}\npolicies: [" +
                                asked.policies + "]\n" + asked.more),
                2,
                {fake_architectures(), {}},
                planning_capabilities({"fake"}));
  for (const auto& counted : rank_memory(run, 0)) {
    if (counted.name == part) {
      return counted.bytes;
    }
  }
  ADD_FAILURE() << "not counted";
  return 0;
}

std::int64_t output_bytes(const std::string& device,
                          const std::string& policy,
                          const std::string& more = "") {
  return bytes_of("experts' outputs (worst case)", {device, "{" + policy + "}", more});
}

std::int64_t buffer_bytes(const std::string& device,
                          const std::string& policies,
                          const std::string& more = "") {
  return bytes_of("exchange buffers (worst case)", {device, policies, more});
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

constexpr const char* kVeto = "fault: {kind: veto, rank: 1, iteration: 1}\n";

/// Of a split as it is, and of a step that runs whole after all.
TEST(RankMemory, CountsTheTokensOfThePlannedUbatches) {
  const std::int64_t row = std::int64_t{2} * 2 * 32;  // a token of each of two ranks, two choices
  for (const std::string device : {"cpu", "cuda"}) {
    const auto bytes = [&](const std::string& policy, const std::string& more = "") {
      return output_bytes(device, "name: dual_batch, " + policy, more);
    };
    EXPECT_EQ(bytes("split: {sizes: [33, 7]}"), 33 * row) << device;
    EXPECT_EQ(bytes("split: {sizes: [7, 33]}"), 33 * row) << device;
    EXPECT_EQ(bytes("split: request"), 20 * row) << device;
    EXPECT_EQ(bytes("ubatches: 3, split: {sizes: [3, 26, 11]}"), 26 * row) << device;
    EXPECT_EQ(bytes("thresholds: {prefill: 41}"), 40 * row) << device << ": no step is cut";
    EXPECT_EQ(bytes("split: request", kVeto), 40 * row) << device << ": one iteration is not";
  }
  const std::string grouped = "name: expert_groups, groups: 2, ubatches: 2";
  EXPECT_EQ(output_bytes("cpu", grouped + ", split: {sizes: [33, 7]}"), 33 * row);
  EXPECT_EQ(output_bytes("cuda", grouped + ", split: {sizes: [33, 7]}"), 2 * 33 * row);
  // The plain schedule has no groups.
  EXPECT_EQ(output_bytes("cuda", grouped + ", thresholds: {prefill: 41}"), 40 * row);
}

/// Each ubatch has its own buffers, which never shrink.
TEST(RankMemory, CountsTheBuffersThatEachUbatchGrowsTo) {
  const auto whole = buffer_bytes("cpu", "{name: sequential}");
  ASSERT_EQ(whole % 40, 0) << "on the CPU buffers are linear in tokens";
  const auto bytes = [&](const std::string& policy, const std::string& more = "") {
    return buffer_bytes("cpu", "{name: dual_batch, " + policy + "}", more);
  };
  EXPECT_EQ(bytes("split: {sizes: [33, 7]}"), whole);
  EXPECT_EQ(bytes("ubatches: 3"), whole) << "14 + 13 + 13 tokens, not three times 14";
  EXPECT_EQ(bytes("thresholds: {prefill: 41}"), whole) << "the others' are never used";
  EXPECT_EQ(bytes("split: {sizes: [33, 7]}", kVeto), whole / 40 * 47);
  EXPECT_EQ(bytes("split: {sizes: [7, 33]}", kVeto), whole / 40 * 73);
  // On GPUs nothing is made for a ubatch that no step has.
  const auto on_gpu = buffer_bytes("cuda", "{name: sequential}");
  const std::string vetoed = "{name: dual_batch, ubatches: 4, thresholds: {prefill: 41}}";
  EXPECT_EQ(buffer_bytes("cuda", vetoed), on_gpu);
  EXPECT_GT(buffer_bytes("cuda", "{name: dual_batch}", kVeto),
            buffer_bytes("cuda", "{name: dual_batch}"));
}

/// On GPUs a policy that is not at turn has none.
TEST(RankMemory, CountsTheBuffersOfAllPoliciesThatTakeTurnsOnTheCpu) {
  const auto bytes = [](const std::string& device, int rounds) {
    return bytes_of("exchange buffers (worst case)",
                    {.device = device,
                     .policies = "{name: sequential}, {name: dual_batch}",
                     .execution = "rounds: " + std::to_string(rounds)});
  };
  EXPECT_EQ(bytes("cpu", 2), 2 * bytes("cpu", 1));
  EXPECT_EQ(bytes("cuda", 2), bytes("cuda", 1));
}

/// Through buffers of its own, whole, whatever the policy does with its steps.
TEST(RankMemory, CountsTheForwardPassThatFillsAContext) {
  const std::int64_t row = std::int64_t{2} * 2 * 32;
  const auto bytes = [&](const std::string& context) {
    return bytes_of(
        "experts' outputs (worst case)",
        {.device = "cpu",
         .policies = "{name: dual_batch, thresholds: none}",
         .workload =
             "phase: decode, requests: {count: 2, context_length: 45}, context: " + context});
  };
  EXPECT_EQ(bytes("prefill"), 90 * row);
  EXPECT_EQ(bytes("random"), row) << "no forward pass";
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
