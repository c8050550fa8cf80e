// What is known of a run before it: where it would be, and what each rank's memory holds.
#include "framework/run/checked_run.hpp"

#include <map>

#include <gtest/gtest.h>

#include "framework/cuda/devices.hpp"
#include "framework/run/capabilities.hpp"
#include "framework/run/rank_memory.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/run/fake_architecture.hpp"

namespace dovetail {
namespace {

using testing::fake_architectures;
using testing::fake_experiment;

CheckedRun check(const std::string& more, int num_ranks) {
  return check_run(
      fake_experiment(more), num_ranks, {fake_architectures(), {}}, build_capabilities({"fake"}));
}

std::map<std::string, std::int64_t> memory_of(const CheckedRun& run, int rank) {
  std::map<std::string, std::int64_t> parts;
  for (const auto& part : rank_memory(run, rank)) {
    EXPECT_TRUE(parts.emplace(part.name, part.bytes).second) << part.name << " is there twice";
  }
  return parts;
}

constexpr const char* kPolicies =
    "policies: [{name: sequential}, {name: dual_batch, exchange: gather}]\n";

TEST(CheckedRun, CountsTheMemoryOfEachRank) {
  const auto run = check(
      "workload: {phase: prefill, requests: {lengths: [20, 7, 5]}, steps: 2}\n"
      "execution: {device: cpu, page_size: 4}\n"
      "record: {outputs: [hidden, logits, layers]}\n" +
          std::string(kPolicies),
      2);
  ASSERT_EQ(run.workloads.size(), 2U);
  ASSERT_EQ(run.policies.size(), 2U);
  std::int64_t requests = 0;
  for (int rank = 0; rank < 2; ++rank) {
    std::int64_t pages = 0;
    for (const auto tokens : run.workloads[static_cast<std::size_t>(rank)].kv_tokens) {
      pages += (tokens + 3) / 4;
      ++requests;
    }
    std::int64_t tokens = 0;
    std::int64_t logits = 0;
    for (const auto& step : run.workloads[static_cast<std::size_t>(rank)].steps) {
      tokens += step.batch.num_tokens();
      logits += std::ssize(step.batch.requests);
    }
    const auto memory = memory_of(run, rank);
    EXPECT_EQ(memory.at("weights"), 1000);
    // Keys and values of two layers, one head of eight elements of four bytes; a page for padding
    // at most.
    const auto page = std::int64_t{2} * 2 * 4 * 8 * 4;
    EXPECT_GE(memory.at("kv cache"), pages * page);
    EXPECT_LE(memory.at("kv cache"), (pages + 1) * page);
    EXPECT_EQ(memory.at("given inputs"), 0) << "token ids alone";
    EXPECT_EQ(memory.at("outputs"),
              std::int64_t{2} * 4 * (tokens * 16 + logits * 100 + 2 * tokens * 16));
    EXPECT_GT(memory.at("exchange buffers (worst case)"), 0);
  }
  EXPECT_EQ(requests, 6) << "three a rank";
}

TEST(CheckedRun, CountsTheRowsThatComeBackInEachPolicysNumerics) {
  const auto exchange_bytes = [](int expert_parallel, int policy) {
    auto run = check(
        "workload: {phase: prefill, requests: {lengths: [20, 7]}}\n"
        "parallel: {expert_parallel: " +
            std::to_string(expert_parallel) + "}\nexecution: {device: cpu}\n" + kPolicies,
        expert_parallel);
    if (policy >= 0) {
      run.experiment.policies[static_cast<std::size_t>(policy)].execution.numerics =
          Numerics::batch_invariant;
    }
    return memory_of(run, 0).at("exchange buffers (worst case)");
  };
  const auto fast = exchange_bytes(2, -1);
  EXPECT_GT(exchange_bytes(2, 0), fast);
  EXPECT_GT(exchange_bytes(2, 1), fast);
  EXPECT_EQ(exchange_bytes(1, 0), exchange_bytes(1, -1)) << "one rank gets nothing back";
}

TEST(CheckedRun, CountsGivenRouting) {
  const auto run = check(
      "workload: {phase: prefill, requests: {lengths: [20, 7]}, routing: balanced}\n"
      "execution: {device: cpu}\n" +
          std::string(kPolicies),
      1);
  EXPECT_EQ(memory_of(run, 0).at("given inputs"), 27 * 2 * 2 * 8) << "int64 [layer, token, k]";
}

TEST(CheckedRun, CountsRecordedRoutingAmongOutputs) {
  const auto outputs = [](const std::string& more) {
    return memory_of(check("execution: {device: cpu, rounds: 1}\n" + more + kPolicies, 1), 0)
        .at("outputs");
  };
  const std::string workload = "workload: {phase: prefill, requests: {lengths: [20, 7]}}\n";
  const auto plain = outputs(workload + "record: {outputs: [hidden]}\n");
  // Of two layers: int32 ids of two experts, float32 logits of the fake model's experts.
  const std::int64_t ids = 27 * 2 * 2 * 4;
  const std::int64_t logits = 27 * 2 * 8 * 4;
  EXPECT_EQ(outputs(workload + "record: {outputs: [hidden, routing]}\n"), plain + ids + logits);
  const std::string replayed =
      "record: {outputs: [hidden]}\nverify: {baseline: sequential, mode: tolerance, routing: "
      "replay}\n";
  EXPECT_EQ(outputs(workload + replayed), plain + 2 * ids + logits)
      << "the router's own choice beside the one that is given";
}

TEST(CheckedRun, RefusesWhatARunWouldRefuse) {
  const auto refusal = [](const std::string& more, int num_ranks) {
    return testing::input_error_of([&] {
      const auto run = check(more, num_ranks);
      rank_memory(run, 0);
    });
  };
  const std::string workload = "workload: {phase: prefill, requests: {lengths: [20, 7]}}\n";
  EXPECT_NE(
      refusal(workload + "execution: {device: cpu}\nparallel: {expert_parallel: 3}\n" + kPolicies,
              2),
      "");
  EXPECT_NE(
      refusal(workload + "execution: {device: cpu}\nparallel: {expert_parallel: 3}\n" + kPolicies,
              3),
      "")
      << "eight experts on three ranks";
  EXPECT_NE(refusal(workload + "execution: {device: cpu, cache_tokens: 16}\n" + kPolicies, 1), "");
  EXPECT_EQ(refusal(workload + "execution: {device: cpu}\n" + kPolicies, 1), "");
}

TEST(CheckedRun, SaysWhatEachStepRuns) {
  const auto run = check(
      "workload: {phase: prefill, requests: {lengths: [20, 7]}, steps: 3}\n"
      "execution: {device: cpu}\n"
      "policies: [{name: sequential}, {name: dual_batch},\n"
      "  {name: few, schedule: dual_batch, thresholds: {prefill: 28}}]\n",
      2);
  ASSERT_EQ(run.planned_steps.size(), 3U);
  for (const auto& steps : run.planned_steps) {
    ASSERT_EQ(steps.size(), 1U) << "all three steps run alike";
    EXPECT_EQ(steps.front().last, 2);
  }
  EXPECT_EQ(run.planned_steps[0].front().describe(), "steps 0 to 2 run sequential");
  EXPECT_EQ(run.planned_steps[1].front().describe(), "steps 0 to 2 run dual_batch");
  EXPECT_EQ(run.planned_steps[2].front().describe(),
            "steps 0 to 2 run sequential (below_threshold)");
}

TEST(PlannedPlace, IsTheCpuWhereThatIsAskedForOrNeeded) {
  const std::string workload = "workload: {phase: prefill, requests: {lengths: [20, 7]}}\n";
  auto capabilities = build_capabilities({"fake"});
  capabilities.cuda = true;
  const auto device_of = [&](const std::string& execution) {
    const auto experiment = fake_experiment(workload + execution + kPolicies);
    return planned_place(experiment, 2, capabilities).device;
  };
  EXPECT_EQ(device_of("execution: {device: cpu}\n"), DeviceKind::cpu);
  EXPECT_EQ(device_of("execution: {link: {latency_us: 1, gbytes_per_s: 1}}\n"), DeviceKind::cpu);
  EXPECT_EQ(device_of("execution: {dtype: float16}\n"), DeviceKind::cpu);
  EXPECT_EQ(device_of("execution: {device: cuda, dtype: bfloat16}\n"), DeviceKind::cuda);
  EXPECT_EQ(device_of("execution: {dtype: bfloat16}\n"),
            visible_gpus().size() >= 2 ? DeviceKind::cuda : DeviceKind::cpu);
  EXPECT_EQ(device_of("execution: {dtype: bfloat16, graph: full, exchange: padded}\n"),
            DeviceKind::cuda)
      << "what only GPUs can do is planned for GPUs";
}

}  // namespace
}  // namespace dovetail
