// What experts return is held by the exchange until the last group's sums: what `dovetail check`
// counts for it, against what the tensors of CPU ranks really take.
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/scratch_folder.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/config/load.hpp"
#include "framework/run/capabilities.hpp"
#include "framework/run/rank_memory.hpp"
#include "models/registry.hpp"
#include "tests/mpi/exchange_driver.hpp"
#include "tests/mpi/policy_case.hpp"
#include "tests/support/mpi_world.hpp"
#include "tests/support/tensor_memory.hpp"
#include "tests/unit/models/memory_source.hpp"

namespace dovetail::test {
namespace {

constexpr std::int64_t kTokens = 40;

/// What the experts return is new, as in a step. Groups follow one another, as in the schedules.
void run_groups(Exchange& exchange, const RoutedTokens& tokens) {
  exchange.prepare(0, tokens);
  for (int group = 0; group < tokens.num_groups; ++group) {
    exchange.dispatch(0, group);
    exchange.reduce(0, group, exchange.arrange(0, group).rows.clone());
    exchange.combine(0, group);
  }
  exchange.finish(0);
}

/// With k = E each rank gets all tokens for all of its experts: the worst routing.
TEST(ExpertMemory, EstimateIsReachedInTheWorstRoutingAndHoldsOtherwise) {
  const TestGroup group;
  constexpr std::int64_t small = 4096;  // that calls of the exchange hold for a while
  for (const int k : {group.size * 8, 3}) {
    for (const int num_groups : {1, 2, 3, 8}) {
      auto shape = group.shape(8, k);
      shape.hidden = 256;
      const std::vector<std::int64_t> tokens(static_cast<std::size_t>(group.size), kTokens);
      auto in = to_tensors(
          make_batch(shape, tokens, Routing::one_rank, Weights::random, fresh_seed()), group.rank);
      in.num_groups = num_groups;
      const auto exchange = group.make("ragged", shape);
      run_groups(*exchange, in);  // its buffers are there
      const TensorMemory memory;
      run_groups(*exchange, in);
      const auto peak = TensorMemory::take_peak();
      const auto estimate = [&](int last_group) {
        return expert_output_bytes(
            "ragged", /*on_gpu=*/false, shape, kTokens, 1.0, num_groups, last_group);
      };
      EXPECT_LE(peak, estimate(num_groups - 1) + small) << k << ", " << num_groups << " groups";
      if (k == shape.num_experts) {
        EXPECT_GE(peak, estimate(num_groups - 1)) << num_groups << " groups";
        // Without the groups before the last one it would not hold.
        EXPECT_EQ(peak > estimate(0) + small, num_groups > 1) << num_groups << " groups";
      }
    }
  }
}

constexpr std::int64_t kInner = 16;

/// The tiny model with all experts for each token, the worst routing, and experts whose inner
/// activations, which nobody counts, are small beside their rows.
std::string write_config(const std::filesystem::path& folder) {
  std::ifstream file(DOVETAIL_SOURCE_DIR "/models/configs/qwen3-moe-tiny.json");
  auto config = nlohmann::json::parse(file);
  config["num_experts_per_tok"] = config["num_experts"];
  config["hidden_size"] = 256;
  config["moe_intermediate_size"] = kInner;
  auto path = (folder / "config.json").string();
  std::ofstream(path) << config;
  return path;
}

std::int64_t part_of(const std::vector<MemoryPart>& parts, const std::string& name) {
  for (const auto& part : parts) {
    if (part.name == name) {
      return part.bytes;
    }
  }
  ADD_FAILURE() << "no part " << name;
  return 0;
}

constexpr std::int64_t kStepTokens = 240;

struct StepCase {
  std::string policy;
  std::int64_t largest_ubatch = kStepTokens;
  std::string more = "";
};

const std::vector<StepCase>& step_cases() {
  static const std::vector<StepCase> cases = {
      {"schedule: sequential"},
      {"schedule: expert_groups, groups: 2"},
      {"schedule: expert_groups, groups: 8"},
      {"schedule: expert_groups, groups: 3, ubatches: 2", kStepTokens / 2},
      {"schedule: dual_batch, split: {sizes: [40, 200]}", 200},
      {"schedule: dual_batch, ubatches: 3, split: {sizes: [140, 20, 80]}", 140},
      {"schedule: dual_batch, split: request", 150},
      {"schedule: dual_batch, thresholds: {prefill: 1000}"},
      // The second step that runs is whole, and the buffers of the first one's ubatches stay.
      {"schedule: dual_batch, split: {sizes: [40, 200]}",
       kStepTokens,
       "fault: {kind: veto, rank: 0, iteration: 1}\n"},
      {"schedule: expert_groups, groups: 8, ubatches: 2, split: {sizes: [70, 170]}", 170},
      {"schedule: expert_groups, groups: 2, ubatches: 2",
       kStepTokens,
       "fault: {kind: veto, rank: 0, iteration: 1}\n"}};
  return cases;
}

std::string experiment_text(const std::string& config, const StepCase& step_case) {
  return "experiment: memory\nmodel: {architecture: qwen3_moe, config: '" + config +
         "'}\nparallel: {expert_parallel: " + std::to_string(world_size()) +
         "}\nworkload: {requests: {lengths: [150, 90]}, seed: 5}\n"
         "execution: {device: cpu, timeout_s: 20, exchange: ragged}\npolicies: [{name: one, " +
         step_case.policy + "}]\nrecord: {outputs: [hidden], timing: steps}\n" + step_case.more;
}

/// What steps take beside weights, caches and outputs: the exchange's buffers and what experts
/// return, as `check` counts them, and what it says that it leaves out.
TEST(ExpertMemory, StepsTakeWhatCheckCounts) {
  const ScratchFolder folder;
  const auto config = write_config(folder.path());
  for (const auto& step_case : step_cases()) {
    SCOPED_TRACE(step_case.policy + " " + step_case.more);
    const auto text = experiment_text(config, step_case);
    const auto run = check_run(parse_experiment(text, "memory.yaml").experiment,
                               world_size(),
                               {architectures(), {}},
                               build_capabilities(architectures().names()));
    const auto parts = rank_memory(run, world_rank());
    const auto exchange_bytes = part_of(parts, "exchange buffers (worst case)");
    const auto output_bytes = part_of(parts, "experts' outputs (worst case)");
    MemorySource source(7);
    PolicyCase steps(text, source);
    const TensorMemory memory;
    for (int i = 0; i < 2; ++i) {
      steps.prepare(i);
      steps.driver().run(nullptr);
      steps.driver().finish();
    }
    const auto peak = TensorMemory::take_peak();
    // Of the rows that all experts of a ubatch get the inner activations, float32 [3 x inner], and
    // of each token the states of a layer.
    const std::int64_t rows = step_case.largest_ubatch * 16;
    const std::int64_t others = rows * 3 * kInner * 4 + kStepTokens * 6 * 256 * 4;
    EXPECT_EQ(output_bytes, rows * 256 * 4);
    // The exchange's metadata is no tensor.
    const auto metadata = 2 * kStepTokens * (world_size() * 2 + 1) * 16 * 8;
    EXPECT_GE(peak, exchange_bytes + output_bytes - metadata);
    EXPECT_LE(peak, exchange_bytes + output_bytes + others);
    // Without what experts return it would not hold.
    EXPECT_GT(peak, exchange_bytes + others);
  }
}

}  // namespace
}  // namespace dovetail::test
