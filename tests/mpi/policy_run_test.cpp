// The steps of a policy on CPU ranks, below the command line: what they compute, that what they
// leave out is seen, and what is recorded of them.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/isnan.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/scratch_folder.hpp"
#include "framework/record/reader.hpp"
#include "models/decoder/architecture.hpp"
#include "models/qwen3_moe.hpp"
#include "tests/mpi/policy_case.hpp"
#include "tests/support/mpi_world.hpp"
#include "tests/unit/models/memory_source.hpp"
#include "tests/unit/models/oracle.hpp"

namespace dovetail::test {
namespace {

constexpr const char* kConfig = DOVETAIL_SOURCE_DIR "/models/configs/qwen3-moe-tiny.json";

/// Three requests for every rank; `execution` and `policy` are what else their maps hold.
std::string experiment(const std::string& execution,
                       const std::string& policy,
                       const std::string& config = kConfig) {
  return "experiment: policy_run\nmodel: {architecture: qwen3_moe, config: '" + config +
         "'}\nparallel: {expert_parallel: " + std::to_string(world_size()) +
         "}\nworkload: {requests: {lengths: [9, 1, 14]}, seed: 5}\nexecution: {device: cpu, "
         "timeout_s: 20, " +
         execution + "}\npolicies: [{name: one, " + policy +
         "}]\nrecord: {outputs: [hidden, logits, logits_all, layers, routing], timing: steps}\n";
}

constexpr std::uint64_t kWeightsSeed = 7;
constexpr const char* kThreeUbatches = "schedule: dual_batch, ubatches: 3";

/// The part of `row` that is wrong, by norms; not a number where it holds one.
double row_error(const at::Tensor& row, const Row& wanted) {
  double error = 0;
  double size = 0;
  EXPECT_EQ(row.numel(), std::ssize(wanted));
  const auto* values = row.const_data_ptr<float>();
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const double difference = double{values[i]} - wanted[i];
    error += difference * difference;
    size += wanted[i] * wanted[i];
  }
  return std::sqrt(error / size);
}

/// Rows of one request against those of the oracle.
void expect_request(const StepOutputs& outputs,
                    const OracleResult& oracle,
                    std::int64_t request,
                    std::int64_t first_row) {
  constexpr double bound = 1e-5;
  const auto length = std::ssize(oracle.hidden);
  for (std::int64_t t = 0; t < length; ++t) {
    SCOPED_TRACE("request " + std::to_string(request) + ", token " + std::to_string(t));
    const auto row = first_row + t;
    const auto index = static_cast<std::size_t>(t);
    EXPECT_LT(row_error(outputs.hidden[row], oracle.hidden[index]), bound);
    EXPECT_LT(row_error(outputs.logits_all[row], oracle.logits[index]), bound);
    for (std::size_t layer = 0; layer < oracle.expert_ids.size(); ++layer) {
      const auto at_layer = static_cast<std::int64_t>(layer);
      const auto& ids = oracle.expert_ids[layer][index];
      for (std::size_t k = 0; k < ids.size(); ++k) {
        EXPECT_EQ(
            outputs.expert_ids[at_layer][row][static_cast<std::int64_t>(k)].item<std::int64_t>(),
            ids[k]);
      }
      EXPECT_LT(row_error(outputs.router_logits[at_layer][row], oracle.router_logits[layer][index]),
                bound);
    }
  }
  EXPECT_LT(row_error(outputs.logits[request], oracle.logits.back()), bound);
}

/// The model with eight experts a token, of sixteen.
std::string write_top_8_config(const std::filesystem::path& folder) {
  std::ifstream file(kConfig);
  auto config = nlohmann::json::parse(file);
  config["num_experts_per_tok"] = 8;
  auto path = (folder / "config.json").string();
  std::ofstream(path) << config;
  return path;
}

/// Of each request of this rank's first step, in order.
std::vector<OracleResult> oracles_of(const StepWorkload& step, const MoeDecoderConfig& config) {
  MemorySource source(kWeightsSeed);
  MoeDecoderArchitecture(config).make_model(source,
                                            {});  // the oracle needs the experts of all ranks
  std::vector<OracleResult> oracles;
  auto next = step.input_ids.begin();
  for (const auto& request : step.batch.requests) {
    oracles.push_back(oracle_forward(config, source, {next, next + request.query_length}));
    next += request.query_length;
  }
  return oracles;
}

/// Experts and weights of a token, rows on the wire, sums and places of outputs: whatever lies
/// between the phases, which tests of the model alone do not have.
TEST(PolicySteps, AreWhatTheOracleSays) {
  const ScratchFolder folder;
  const auto path = write_top_8_config(folder.path());
  std::vector<OracleResult> oracles;
  for (const auto* policy : {"schedule: sequential", kThreeUbatches}) {
    for (const auto* exchange : {"gather", "ragged"}) {
      SCOPED_TRACE(std::string(policy) + ", " + exchange);
      MemorySource source(kWeightsSeed);
      PolicyCase steps(experiment("exchange: " + std::string(exchange), policy, path), source);
      if (oracles.empty()) {
        oracles = oracles_of(steps.step(), read_qwen3_moe_config(path));
      }
      steps.prepare();
      steps.driver().run(nullptr);
      steps.driver().finish();
      std::int64_t row = 0;
      for (std::size_t i = 0; i < oracles.size(); ++i) {
        expect_request(steps.outputs(), oracles[i], static_cast<std::int64_t>(i), row);
        row += std::ssize(oracles[i].hidden);
      }
      EXPECT_EQ(row, 24);
    }
  }
}

/// Otherwise the outputs of the iteration before would pass for those of one that leaves some out.
TEST(PolicySteps, WhatAStepDoesNotWriteIsSeen) {
  MemorySource source(kWeightsSeed);
  PolicyCase steps(experiment("exchange: ragged", kThreeUbatches), source);
  steps.prepare(0);
  steps.driver().run(nullptr);
  steps.driver().finish();
  expect_all_nan(steps.outputs_written(), false);
  EXPECT_TRUE((steps.outputs().expert_ids >= 0).all().item<bool>());
  expect_all_nan(steps.cache_written(), false);
  steps.prepare(1);
  steps.driver().finish();
  expect_all_nan(steps.outputs_written(), true);
  EXPECT_TRUE((steps.outputs().expert_ids == -1).all().item<bool>());
}

/// Otherwise a step could read, of a token that this iteration has not reached, what the iteration
/// before has left.
TEST(PolicyRun, KeysAndValuesAreNanBeforeEachTimedIteration) {
  MemorySource source(kWeightsSeed);
  PolicyCase steps(experiment("warmup: 2, iterations: 3", "schedule: dual_batch, ubatches: 2"),
                   source);
  std::atomic<bool> is_between{false};
  std::atomic<int> gap{-1};
  std::vector<bool> were_nan;
  const auto is_nan = [&] {
    const auto written = steps.cache_written();
    return std::all_of(written.begin(), written.end(), [](const at::Tensor& tensor) {
      return at::isnan(tensor).all().item<bool>();
    });
  };
  // The first poll of an iteration comes before its first op, while no other thread works. Behind
  // the last warm-up, clocks are compared before that, and this may poll as well.
  steps.on_poll = [&] {
    if (is_between && gap == 1 && !is_nan()) {
      return;
    }
    if (is_between.exchange(false)) {
      were_nan.push_back(is_nan());
    }
  };
  const ScratchFolder folder;
  steps.run(folder.path(), [&](int finished, int all) {
    expect_all_nan(steps.cache_written(), false);
    if (is_between) {
      were_nan.push_back(false);
    }
    ++gap;
    is_between = finished < all;
  });
  // Behind the first warm-up, the second, and two timed iterations.
  EXPECT_EQ(were_nan, (std::vector<bool>{false, true, true, true}));
}

/// The emulated link bounds a step from below: its lane has one exchange at a time. (A machine so
/// busy that a step takes several times as long does not fail this test, it only sees less.)
TEST(PolicyRun, StepTimesAreThoseOfWholeSteps) {
  MemorySource source(kWeightsSeed);
  PolicyCase steps(
      experiment("warmup: 0, iterations: 2, link: {latency_us: 10000, gbytes_per_s: 100}",
                 kThreeUbatches),
      source);
  const ScratchFolder folder;
  const auto step_ns =
      RankFile(steps.run(folder.path(), {})).read<std::int64_t>("/timing/step_ns").values;
  constexpr std::int64_t exchanges = 24;  // two of each of 3 ubatches in 4 layers
  ASSERT_EQ(step_ns.size(), 2U);
  for (const auto time : step_ns) {
    EXPECT_GE(time, exchanges * 10'000'000);
  }
}

/// A clock that is ahead of rank 0's: what the file says to add leads back to rank 0's time.
TEST(Recording, ClockOffsetLeadsToTheClockOfRankZero) {
  MemorySource source(kWeightsSeed);
  const PolicyCase steps(experiment("warmup: 0", "schedule: sequential"), source);
  const ClockOffset clock = {.offset_ns = 7'000, .error_bound_ns = 90};
  const std::int64_t on_rank_zero = 1'000'000;
  const auto spec = steps.file_spec(clock);
  EXPECT_EQ(on_rank_zero + clock.offset_ns + spec.clock_offset_ns, on_rank_zero);
  EXPECT_EQ(spec.clock_error_ns, clock.error_bound_ns);
}

}  // namespace
}  // namespace dovetail::test
