// Rules between values: each with a twin that keeps to it.
#include "framework/config/validate.hpp"

#include <gtest/gtest.h>

#include "tests/unit/config/config_samples.hpp"

namespace dovetail {
namespace {

using testing::host_capabilities;
using testing::kSmall;
using testing::replaced;

std::string error_of(const std::string& text,
                     std::optional<int> num_ranks = 2,
                     const Capabilities& capabilities = host_capabilities(),
                     const std::vector<std::string>& overrides = {}) {
  return testing::input_error(
      [&] { validate(parse_experiment(text, "bad.yaml", overrides), capabilities, num_ranks); });
}

struct BadCase {
  std::string from, to, place, fragment;
};

void expect_errors(const std::vector<BadCase>& cases) {
  for (const BadCase& bad : cases) {
    const std::string what = error_of(replaced(kSmall, bad.from, bad.to));
    EXPECT_TRUE(what.starts_with("bad.yaml:" + bad.place + ": "))
        << bad.to << "\nplace " << bad.place << "\n"
        << what;
    EXPECT_NE(what.find(bad.fragment), std::string::npos) << bad.to << "\n" << what;
  }
}

void expect_good(const std::vector<std::pair<std::string, std::string>>& changes) {
  for (const auto& [from, to] : changes) {
    EXPECT_EQ(error_of(replaced(kSmall, from, to)), "") << to;
  }
}

TEST(Validate, GoodExperiments) {
  EXPECT_EQ(error_of(kSmall), "");
  EXPECT_EQ(error_of(kSmall, std::nullopt), "");
  expect_good({
      {"count: 8, length: 128", "lengths: [1, 2, 300]"},
      {"phase: prefill", "routing: {replay: results/a/sequential}"},
      {"phase: prefill", "routing: natural"},
      {"0.75", "0"},
      {"iterations: 10", "device: cpu, exchange: gather"},
      {"iterations: 10", "exchange: ragged"},
      {"ubatches: 2", "ubatches: 8, split: request"},
      {"ubatches: 2", "split: {sizes: [0, 0]}"},
      {"ubatches: 2", "ubatches: 3, split: {sizes: [0, 5, 0]}"},
      {"ubatches: 2", "thresholds: {prefill: 2, decode: 0}"},
      {"{name: sequential}", "{name: sequential}\n  - {name: Dual-3_x, schedule: dual_batch}"},
      {"experiment: small", "experiment: a.b-c_2"},
      {"{baseline: sequential, mode: tolerance}", "{mode: none}"},
      {"[hidden, logits]", "[layers, routing]"},
      {"mode: tolerance}\nrecord: {outputs: [",
       "mode: bitwise, routing: replay}\nrecord: {outputs: [routing, "},
      {"record:", "fault: {kind: exception, rank: 1}\nrecord:"},
  });
}

TEST(Validate, UnknownNames) {
  expect_errors({
      {"qwen3_moe",
       "llama",
       "3:17",
       "model.architecture: unknown architecture 'llama'; known: qwen3_moe"},
      {"{name: sequential}",
       "{name: sequentiel}",
       "13:12",
       "policies[0].name: unknown overlap policy 'sequentiel'; known: sequential, shared_expert, "
       "dual_batch"},
      {"ubatches: 2",
       "schedule: triple_batch",
       "14:34",
       "policies[1].schedule: unknown overlap policy 'triple_batch'; known: sequential"},
      {"iterations: 10",
       "exchange: nccl",
       "11:23",
       "execution.exchange: unknown exchange 'nccl'; known: auto, gather, ragged"},
      {"ubatches: 2", "exchange: nccl", "14:34", "policies[1].exchange: unknown exchange 'nccl'"},
      {"ubatches: 2",
       "split: middle",
       "14:31",
       "policies[1].split: unknown split 'middle'; known: token_midpoint, request, sizes"},
      {"baseline: sequential",
       "baseline: serial",
       "15:20",
       "verify.baseline: unknown policy 'serial'; known: sequential, dual_batch"},
      {"record:",
       "fault: {kind: hang, rank: 0, phase: expert}\nrecord:",
       "16:37",
       "fault.phase: unknown phase 'expert'; known: embed, attention"},
  });
}

TEST(Validate, NotBuiltYet) {
  expect_errors({
      {"phase: prefill",
       "phase: decode",
       "8:10",
       "workload.phase: phase decode is not built yet; allowed: prefill"},
      {"phase: prefill", "phase: mixed", "8:10", "phase mixed is not built yet"},
      {"phase: prefill", "steps: 2", "8:10", "workload.steps: more than one step is not built yet"},
      {"phase: prefill",
       "context: prefill",
       "8:12",
       "workload.context: a context before the step is not built yet"},
      {"phase: prefill", "context: random", "8:12", "a context before the step is not built yet"},
      {"length: 128",
       "length: 128, context_length: 1",
       "9:53",
       "workload.requests.context_length: a context before the step is not built yet"},
      {"phase: prefill",
       "inputs: embeds",
       "8:11",
       "workload.inputs: embeds is not built yet; allowed: ids"},
      {"phase: prefill",
       "positions: mrope",
       "8:14",
       "workload.positions: mrope is not built yet; allowed: text"},
      {"phase: prefill",
       "routing: balanced",
       "8:12",
       "workload.routing: balanced is not built yet; allowed: natural"},
      {"phase: prefill",
       "routing: {zipf: 1.2}",
       "8:19",
       "workload.routing.zipf: zipf is not built yet"},
      {"count: 8, length: 128",
       "lognormal: {count: 8, median: 100, sigma: 1}",
       "9:25",
       "workload.requests.lognormal: lognormal is not built yet"},
      {"count: 8, length: 128",
       "file: trace.jsonl",
       "9:20",
       "workload.requests.file: a file of requests is not built yet"},
      {"  config: tiny.json",
       "  config: tiny.json\n  layers: [0, 4]",
       "5:11",
       "model.layers: a range of layers is not built yet; allowed: all"},
      {"iterations: 10",
       "graph: piecewise",
       "11:20",
       "execution.graph: graph piecewise is not built yet; allowed: none"},
      {"ubatches: 2", "graph: full", "14:31", "policies[1].graph: graph full is not built yet"},
      {"iterations: 10",
       "device: cuda",
       "11:21",
       "execution.device: cuda is not built yet; allowed: auto, cpu"},
      {"iterations: 10",
       "numerics: batch_invariant",
       "11:23",
       "execution.numerics: batch_invariant is not built yet"},
      {"ubatches: 2",
       "split: balanced",
       "14:31",
       "policies[1].split: split 'balanced' is not built yet; allowed: token_midpoint, request, "
       "sizes"},
      {"iterations: 10",
       "exchange: padded",
       "11:23",
       "execution.exchange: exchange 'padded' is not built yet; allowed: auto, gather, ragged"},
      {"iterations: 10", "exchange: symmetric", "11:23", "exchange 'symmetric' is not built yet"},
      {"ubatches: 2",
       "exchange: copy_engine",
       "14:34",
       "policies[1].exchange: exchange 'copy_engine' is not built yet"},
      {"ubatches: 2",
       "schedule: staged",
       "14:34",
       "policies[1].schedule: overlap policy 'staged' is not built yet"},
      {"{name: sequential}",
       "{name: auto}",
       "13:12",
       "policies[0].name: overlap policy 'auto' is not built yet"},
      {"ubatches: 2",
       "schedule: plans/a.json",
       "14:34",
       "policies[1].schedule: a schedule from a file is not built yet"},
  });
}

TEST(Validate, RulesBetweenValues) {
  expect_errors({
      {"experiment: small",
       "experiment: a/b",
       "1:13",
       "'a/b' names no folder; allowed: up to 64 letters"},
      {"experiment: small", "experiment: ..", "1:13", "names no folder"},
      {"name: dual_batch, ubatches",
       "name: a/b, schedule: dual_batch, ubatches",
       "14:12",
       "policies[1].name: 'a/b' names no folder"},
      {"name: dual_batch, ubatches",
       "name: " + std::string(65, 'a') + ", schedule: dual_batch, ubatches",
       "14:12",
       "names no folder"},
      {"name: dual_batch, ubatches: 2",
       "name: sequential",
       "14:12",
       "policies[1].name: 'sequential' is the name of two policies"},
      {"{name: sequential}",
       "{name: sequential, ubatches: 2}",
       "13:34",
       "policies[0].ubatches: 2 ubatches in sequential; allowed: 1 to 1"},
      {"ubatches: 2",
       "ubatches: 1",
       "14:34",
       "policies[1].ubatches: 1 ubatches in dual_batch; allowed: 2 to 8"},
      {"ubatches: 2",
       "split: {sizes: [1, 2, 3]}",
       "14:31",
       "policies[1].split: 3 sizes for 2 ubatches; allowed: one size an ubatch"},
      {"ubatches: 2", "ubatches: 4, split: {sizes: [1, 2, 3]}", "14:44", "3 sizes for 4 ubatches"},
      {"ubatches: 2",
       "ubatches: 4, thresholds: {prefill: 3}",
       "14:59",
       "policies[1].thresholds.prefill: 3 tokens for 4 ubatches"},
      {"ubatches: 2",
       "thresholds: {decode: 1}",
       "14:45",
       "policies[1].thresholds.decode: 1 tokens for 2 ubatches"},
      {"[hidden, logits]", "[]", "16:19", "record.outputs: nothing to verify"},
      {"[hidden, logits]", "[routing]", "16:19", "record.outputs: nothing to verify"},
      {"mode: tolerance",
       "mode: tolerance, routing: replay",
       "15:58",
       "verify.routing: replay takes the recorded routing; add routing to record.outputs"},
      {"[1.0, 0.75]", "[0, 0.0]", "10:15", "workload.rank_scale: every rank is idle"},
      {"expert_parallel: 2",
       "expert_parallel: 4",
       "6:29",
       "parallel.expert_parallel: the world of 2 ranks is no multiple of 4"},
      {"[1.0, 0.75]", "[1.0]", "10:15", "workload.rank_scale: 1 values for a world of 2 ranks"},
      {"record:",
       "fault: {kind: hang, rank: 2}\nrecord:",
       "16:27",
       "fault.rank: rank 2 in a world of 2 ranks, counted from 0"},
  });
}

TEST(Validate, RulesOfTheWorldNeedTheWorld) {
  EXPECT_NE(error_of(kSmall, 3).find("the world of 3 ranks is no multiple of 2"),
            std::string::npos);
  EXPECT_NE(error_of(kSmall, 4).find("2 values for a world of 4 ranks"), std::string::npos);
  const std::string equal = replaced(kSmall, "[1.0, 0.75]", "[]");
  EXPECT_EQ(error_of(equal, 4), "");
  EXPECT_EQ(error_of(replaced(kSmall, "expert_parallel: 2", "expert_parallel: 4"), std::nullopt),
            "");
  const std::string idle = replaced(kSmall, "[1.0, 0.75]", "[0, 0, 1]");
  EXPECT_EQ(error_of(idle, std::nullopt), "");
  EXPECT_NE(error_of(idle, 2).find("every rank is idle"), std::string::npos);
}

/// A place that only a default has: the nearest value around it is named.
TEST(Validate, DefaultsAreNamedAtTheValueAround) {
  Capabilities capabilities = host_capabilities();
  capabilities.policies[2] = {"dual_batch", 4, 8, 2};
  const std::string what = error_of(replaced(kSmall, ", ubatches: 2", ""), 2, capabilities);
  EXPECT_TRUE(
      what.starts_with("bad.yaml:14:5: policies[1].ubatches: 2 ubatches in dual_batch; "
                       "allowed: 4 to 8"))
      << what;
}

TEST(Validate, OverridesAreNamed) {
  EXPECT_EQ(
      error_of(kSmall, 2, host_capabilities(), {"execution.graph=full"}),
      "--set execution.graph=full: execution.graph: graph full is not built yet; allowed: none");
  EXPECT_EQ(error_of(kSmall, 2, host_capabilities(), {"policies.dual_batch.ubatches=1"}),
            "--set policies.dual_batch.ubatches=1: policies[1].ubatches: 1 ubatches in dual_batch; "
            "allowed: 2 to 8");
}

/// What a later build offers is taken without a change here.
TEST(Validate, CapabilitiesDecide) {
  Capabilities capabilities = host_capabilities();
  capabilities.cuda = true;
  capabilities.exchanges.emplace_back("padded");
  capabilities.splits.emplace_back("balanced");
  capabilities.policies.push_back({"staged", 1, 8, 2});
  std::string text = replaced(kSmall, "iterations: 10", "device: cuda, exchange: padded");
  text = replaced(text, "ubatches: 2", "schedule: staged, split: balanced");
  EXPECT_EQ(error_of(text, 2, capabilities), "");
}

TEST(Validate, NumUbatches) {
  PolicyConfig policy;
  const PolicyCapability capability{"dual_batch", 2, 8, 2};
  EXPECT_EQ(num_ubatches(policy, capability), 2);
  policy.ubatches = 5;
  EXPECT_EQ(num_ubatches(policy, capability), 5);
}

}  // namespace
}  // namespace dovetail
