// What the phases of a step cost, by hand, for a small model of two MoE layers.
#include "framework/run/phase_work.hpp"

#include <cmath>

#include <gtest/gtest.h>

#include "framework/run/capabilities.hpp"
#include "tests/unit/run/fake_architecture.hpp"

namespace dovetail {
namespace {

using testing::fake_architectures;
using testing::fake_experiment;

constexpr double kElement = 2;                         // bfloat16
constexpr double kExpertBytes = 4e6;                   // of one of two ranks
constexpr double kKeyBytes = 2 * 8 * 2 * kElement;     // a key and a value in two layers
constexpr double kIsNeeded = 1 - (4 * 3) / (8.0 * 7);  // both experts of a token are elsewhere
constexpr double kRowBytes = 16 * 2 * kElement;        // in two layers

CheckedRun check(const std::string& workload, const std::string& more = "") {
  return check_run(
      fake_experiment(
          "workload: {" + workload +
          "}\nparallel: {expert_parallel: 2}\n"
          "execution: {dtype: bfloat16, device: cpu}\nrecord: {outputs: [hidden, logits]}\n"
          "policies: [{name: plain, schedule: sequential},\n"
          "  {name: cut, schedule: dual_batch, split: {sizes: [33, 7]}},\n"
          "  {name: vetoed, schedule: dual_batch, thresholds: {prefill: 1000, decode: 1000}}]\n" +
          more),
      2,
      {fake_architectures(), {}},
      planning_capabilities({"fake"}));
}

constexpr const char* kPrefill = "phase: prefill, requests: {lengths: [20, 8, 12]}";

PhaseWork of(const WorkByPhase& work, Phase phase) {
  return work[static_cast<std::size_t>(phase)];
}

/// Bytes of the experts that at least one of so many tokens has.
double read_experts(double tokens) {
  return kExpertBytes * (1 - std::pow(0.75, tokens));
}

TEST(PhaseWork, OfAPlainPrefillIsTheHandSum) {
  const auto run = check(kPrefill);
  const auto work = work_of_step(run, 0, 0, 0);
  EXPECT_DOUBLE_EQ(of(work, Phase::embed).weight_bytes, 40 * 16 * kElement);
  const auto attention = of(work, Phase::attention);
  EXPECT_DOUBLE_EQ(attention.flops, 40 * 40 + (20 * 21 + 8 * 9 + 12 * 13) / 2.0);
  EXPECT_DOUBLE_EQ(attention.weight_bytes, 1000);
  EXPECT_DOUBLE_EQ(attention.cache_read_bytes, 40 * kKeyBytes);
  EXPECT_DOUBLE_EQ(attention.cache_written_bytes, 40 * kKeyBytes);
  EXPECT_DOUBLE_EQ(of(work, Phase::route).flops, 400);
  EXPECT_DOUBLE_EQ(of(work, Phase::dispatch).sent_bytes, 40 * kIsNeeded * kRowBytes);
  EXPECT_DOUBLE_EQ(of(work, Phase::dispatch).received_bytes, 40 * kIsNeeded * kRowBytes);
  EXPECT_DOUBLE_EQ(of(work, Phase::experts).flops, 80 * 50 / 2.0);
  EXPECT_DOUBLE_EQ(of(work, Phase::experts).weight_bytes, read_experts(80));
  EXPECT_DOUBLE_EQ(of(work, Phase::combine).sent_bytes, 40 * kIsNeeded * kRowBytes);
  EXPECT_DOUBLE_EQ(of(work, Phase::output).flops, 3 * 2 * 100 * 16);
  EXPECT_DOUBLE_EQ(of(work, Phase::output).weight_bytes, 100 * 16 * kElement);
  EXPECT_DOUBLE_EQ(of(work, Phase::mlp).flops, 0);
  EXPECT_DOUBLE_EQ(of(work, Phase::shared_experts).flops, 0);
}

/// The third request is cut behind five of its tokens: their keys are read twice.
TEST(PhaseWork, UbatchesReadWeightsAndCutRequestsAgain) {
  const auto run = check(kPrefill);
  const auto plain = work_of_step(run, 0, 0, 0);
  const auto cut = work_of_step(run, 1, 0, 0);
  EXPECT_EQ(tokens_of_step(run, 1, 0, 0), (std::vector<std::int64_t>{33, 7}));
  EXPECT_DOUBLE_EQ(of(cut, Phase::attention).flops, of(plain, Phase::attention).flops);
  EXPECT_DOUBLE_EQ(of(cut, Phase::attention).weight_bytes, 2000);
  EXPECT_DOUBLE_EQ(of(cut, Phase::attention).cache_read_bytes, (33 + 12) * kKeyBytes);
  EXPECT_DOUBLE_EQ(of(cut, Phase::attention).cache_written_bytes, 40 * kKeyBytes);
  EXPECT_DOUBLE_EQ(of(cut, Phase::experts).flops, of(plain, Phase::experts).flops);
  EXPECT_DOUBLE_EQ(of(cut, Phase::experts).weight_bytes, read_experts(66) + read_experts(14));
  EXPECT_DOUBLE_EQ(of(cut, Phase::dispatch).sent_bytes, of(plain, Phase::dispatch).sent_bytes);
  EXPECT_DOUBLE_EQ(of(cut, Phase::output).flops, of(plain, Phase::output).flops);
  EXPECT_DOUBLE_EQ(of(cut, Phase::output).weight_bytes, 2 * 100 * 16 * kElement)
      << "requests end in both ubatches";
  EXPECT_EQ(tokens_of_step(run, 2, 0, 0), std::vector<std::int64_t>{40}) << "runs whole";
  EXPECT_DOUBLE_EQ(of(work_of_step(run, 2, 0, 0), Phase::attention).weight_bytes, 1000);
}

TEST(PhaseWork, OfADecodeStepReadsTheContext) {
  const auto run = check("phase: decode, requests: {count: 2, context_length: 45}, steps: 2");
  for (const std::size_t step : {0U, 1U}) {
    const double keys = 2 * (46 + static_cast<double>(step));
    const auto work = work_of_step(run, 0, 1, step);
    EXPECT_DOUBLE_EQ(of(work, Phase::attention).flops, 2 * 40 + keys) << step;
    EXPECT_DOUBLE_EQ(of(work, Phase::attention).cache_read_bytes, keys * kKeyBytes) << step;
    EXPECT_DOUBLE_EQ(of(work, Phase::attention).cache_written_bytes, 2 * kKeyBytes) << step;
    EXPECT_DOUBLE_EQ(of(work, Phase::experts).weight_bytes, read_experts(4)) << step;
  }
}

/// Its experts work for the other, to which all that it gets goes back.
TEST(PhaseWork, OfAnIdleRankIsThatOfTheOthersTokens) {
  const auto run = check(std::string(kPrefill) + ", rank_scale: [1.0, 0.0]");
  const auto idle = work_of_step(run, 0, 1, 0);
  EXPECT_DOUBLE_EQ(of(idle, Phase::attention).weight_bytes, 0);
  EXPECT_DOUBLE_EQ(of(idle, Phase::attention).flops, 0);
  EXPECT_DOUBLE_EQ(of(idle, Phase::dispatch).sent_bytes, 0);
  EXPECT_DOUBLE_EQ(of(idle, Phase::dispatch).received_bytes, 40 * kIsNeeded * kRowBytes);
  EXPECT_DOUBLE_EQ(of(idle, Phase::combine).sent_bytes, 40 * kIsNeeded * kRowBytes);
  EXPECT_DOUBLE_EQ(of(idle, Phase::experts).flops, 40 * 50 / 2.0);
  EXPECT_DOUBLE_EQ(of(work_of_step(run, 0, 0, 0), Phase::dispatch).received_bytes, 0);
}

}  // namespace
}  // namespace dovetail
