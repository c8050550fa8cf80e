// Rules between values: each with a twin that keeps to it.
#include "framework/config/validate.hpp"

#include <gtest/gtest.h>

#include "framework/config/validate_execution.hpp"
#include "tests/unit/config/validate_cases.hpp"

namespace dovetail {
namespace {
using testing::error_of;
using testing::expect_errors;
using testing::expect_good;
using testing::host_capabilities;
using testing::kSmall;
using testing::replaced;

TEST(Validate, PrecisionEndsNoRunOfAFewRounds) {
  const auto of_rounds = [](int rounds, const std::string& precision) {
    return error_of(kSmall,
                    2,
                    host_capabilities(),
                    {"execution.iterations=40",
                     "execution.precision=" + precision,
                     "execution.rounds=" + std::to_string(rounds)});
  };
  for (const int rounds : {1, 2, 5}) {
    EXPECT_NE(
        of_rounds(rounds, "0.01")
            .find("execution.rounds: " + std::to_string(rounds) + " with execution.precision"),
        std::string::npos)
        << of_rounds(rounds, "0.01");
    EXPECT_EQ(of_rounds(rounds, "0"), "");
  }
  for (const int rounds : {0, 6, 40}) {
    EXPECT_EQ(of_rounds(rounds, "0.01"), "") << rounds;
  }
  EXPECT_NE(of_rounds(0, "1.5"), "");
  EXPECT_NE(of_rounds(0, "-0.1"), "");
}

TEST(Validate, GoodExperiments) {
  EXPECT_EQ(error_of(kSmall), "");
  EXPECT_EQ(error_of(kSmall, std::nullopt), "");
  expect_good({
      {"count: 8, length: 128", "lengths: [1, 2, 300]"},
      {"phase: prefill", "routing: {replay: results/a/sequential}"},
      {"phase: prefill", "routing: natural"},
      {"phase: prefill", "routing: balanced"},
      {"phase: prefill", "routing: {zipf: 1.2}"},
      {"phase: prefill", "phase: mixed"},
      {"phase: prefill", "steps: 2\n  context: random"},
      {"phase: prefill", "inputs: embeds\n  positions: mrope"},
      {"count: 8, length: 128", "count: 8, length: 128, context_length: 64"},
      {"count: 8, length: 128", "lognormal: {count: 8, median: 100, sigma: 1}"},
      {"count: 8, length: 128", "file: trace.jsonl"},
      {"iterations: 10", "page_size: 8, cache_tokens: 40"},
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
       "execution.exchange: unknown exchange 'nccl'; known: auto, gather, ragged, padded"},
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
      {"ubatches: 2",
       "dtype: bfloat16",
       "14:31",
       "policies[1].dtype: a dtype of a policy's own is not built yet; allowed: the experiment's, "
       "float32"},
      {"ubatches: 2",
       "device: cpu",
       "14:32",
       "policies[1].device: a device of a policy's own is not built yet; allowed: the "
       "experiment's, "
       "auto"},
      {"iterations: 10",
       "exchange: copy_engine",
       "11:23",
       "execution.exchange: exchange 'copy_engine' is not built yet; allowed: auto, gather, "
       "ragged, "
       "padded"},
      {"ubatches: 2",
       "exchange: copy_engine",
       "14:34",
       "policies[1].exchange: exchange 'copy_engine' is not built yet"},
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
       "policies[1].ubatches: 1 ubatch in dual_batch; allowed: 2 to 8"},
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
       "policies[1].thresholds.decode: 1 token for 2 ubatches"},
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
      {"[1.0, 0.75]", "[1.0]", "10:15", "workload.rank_scale: 1 value for a world of 2 ranks"},
      {"record:",
       "fault: {kind: hang, rank: 2}\nrecord:",
       "16:27",
       "fault.rank: rank 2 in a world of 2 ranks, counted from 0"},
  });
}

TEST(Validate, RulesOfTheWorkload) {
  const std::string stage = "tiny.json\n  layers: [2, 4]";
  const std::string hidden = "phase: prefill\n  inputs: {hidden: results/a/sequential}";
  const std::string later =
      replaced(replaced(kSmall, "tiny.json", stage), "phase: prefill", hidden);
  const auto with_requests = [](const std::string& text, const std::string& requests) {
    return error_of(replaced(text, "{count: 8, length: 128}", requests));
  };
  expect_errors({
      {"phase: prefill",
       "phase: decode",
       "9:32",
       "workload.requests.length: more than one token in the phase decode; allowed: 1, or none"},
      {"phase: prefill",
       hidden,
       "9:11",
       "workload.inputs: hidden states go into a stage that is not the first; allowed: ids, "
       "embeds, or model.layers with a first above 0"},
      {"tiny.json",
       stage,
       "9:3",
       "workload.inputs: ids for a stage that begins at layer 2; allowed: {hidden: policy folder}"},
  });
  EXPECT_NE(error_of(replaced(replaced(kSmall, "tiny.json", "tiny.json\n  layers: [0, 4]"),
                              "phase: prefill",
                              hidden))
                .find("hidden states go into a stage that is not the first"),
            std::string::npos);
  EXPECT_EQ(error_of(later), "");
  EXPECT_EQ(error_of(replaced(kSmall, "tiny.json", "tiny.json\n  layers: [0, 4]")), "");

  const std::string context = "a context with workload.inputs hidden; allowed: 0, or workload.cont";
  EXPECT_NE(with_requests(later, "{count: 8, length: 128, context_length: 1}")
                .find("workload.requests.context_length: " + context),
            std::string::npos);
  EXPECT_NE(with_requests(later, "{lengths: [5, 6], context_lengths: [0, 1]}")
                .find("workload.requests.context_lengths[1]: " + context),
            std::string::npos);
  EXPECT_NE(with_requests(later, "[{lengths: [5]}, {count: 1, length: 1, context_length: 7}]")
                .find("workload.requests[1].context_length: " + context),
            std::string::npos);
  EXPECT_NE(with_requests(later, "{lognormal: {count: 1, median: 9, sigma: 1, context_length: 1}}")
                .find("workload.requests.lognormal.context_length: " + context),
            std::string::npos);
  const std::string decode = replaced(later, "phase: prefill", "phase: decode");
  EXPECT_NE(with_requests(decode, "{lognormal: {count: 1, median: 9, sigma: 1}}")
                .find("workload.requests.lognormal: " + context),
            std::string::npos);
  EXPECT_EQ(with_requests(replaced(decode, "phase: decode", "phase: decode\n  context: random"),
                          "{lognormal: {count: 1, median: 9, sigma: 1}}"),
            "");
  EXPECT_EQ(with_requests(later, "{lengths: [5, 6], context_lengths: [0, 0]}"), "");
  EXPECT_EQ(with_requests(later, "{file: a.jsonl}"), "");

  const std::string first_decode = replaced(kSmall, "phase: prefill", "phase: decode");
  EXPECT_NE(with_requests(first_decode, "{lengths: [1, 2]}")
                .find("workload.requests.lengths[1]: more than one token"),
            std::string::npos);
  EXPECT_NE(with_requests(first_decode, "[{count: 1}, {count: 1, length: 2}]")
                .find("workload.requests[1].length: more than one token"),
            std::string::npos);
  for (const char* good : {"{count: 2, context_length: 9}",
                           "{count: 2, length: 1}",
                           "{context_lengths: [3, 4]}",
                           "{lengths: [1, 1]}",
                           "{lognormal: {count: 2, median: 80, sigma: 1}}",
                           "{file: a.jsonl}"}) {
    EXPECT_EQ(with_requests(first_decode, good), "") << good;
  }
}

TEST(Validate, RulesOfTheCacheAndTheLink) {
  expect_errors({
      {"iterations: 10",
       "page_size: 16, cache_tokens: 40",
       "11:42",
       "execution.cache_tokens: 40 tokens are no whole number of pages of 16; allowed: a multiple "
       "of page_size, or 0"},
      {"ubatches: 2",
       "ubatches: 2, cache_tokens: 8",
       "14:51",
       "policies[1].cache_tokens: 8 tokens are no whole number of pages of 16"},
  });
  Capabilities cuda = host_capabilities();
  cuda.cuda = true;
  const std::string linked = replaced(kSmall, "iterations: 10", "link: {gbytes_per_s: 1}");
  EXPECT_EQ(error_of(linked, 2, cuda), "");
  EXPECT_EQ(error_of(replaced(linked, "link:", "device: cpu, link:"), 2, cuda), "");
  EXPECT_TRUE(error_of(replaced(linked, "link:", "device: cuda, link:"), 2, cuda)
                  .starts_with("bad.yaml:11:33: execution.link: an emulated link on device cuda; "
                               "allowed: none, or device cpu"));
  const std::string of_a_policy = replaced(
      replaced(kSmall, "iterations: 10", "device: cuda"), "ubatches: 2", "link: {gbytes_per_s: 1}");
  EXPECT_TRUE(
      error_of(of_a_policy, 2, cuda)
          .starts_with("bad.yaml:14:30: policies[1].link: an emulated link on device cuda"));
}

TEST(Validate, EveryVariantNeedsATimedIteration) {
  const std::string fragment =
      "workload.variants: 11, and policy sequential has 10 iterations, one for each variant at "
      "most; "
      "allowed: 1 to 10, or more iterations";
  EXPECT_NE(error_of(replaced(kSmall, "phase: prefill", "variants: 11")).find(fragment),
            std::string::npos);
  EXPECT_EQ(error_of(replaced(kSmall, "phase: prefill", "variants: 10")), "");
  const auto own = replaced(replaced(kSmall, "phase: prefill", "variants: 3"),
                            "ubatches: 2",
                            "ubatches: 2, iterations: 2");
  EXPECT_NE(error_of(own).find("workload.variants: 3, and policy "), std::string::npos);
  EXPECT_EQ(error_of(replaced(own, "variants: 3", "variants: 2")), "");
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
      "--set execution.graph=full: execution.graph: graph full on device cpu (this build has no "
      "CUDA); allowed: none, or device cuda");
  EXPECT_EQ(error_of(kSmall, 2, host_capabilities(), {"policies.dual_batch.ubatches=1"}),
            "--set policies.dual_batch.ubatches=1: policies[1].ubatches: 1 ubatch in dual_batch; "
            "allowed: 2 to 8");
}

/// What a later build offers is taken without a change here.
TEST(Validate, CapabilitiesDecide) {
  Capabilities capabilities = host_capabilities();
  capabilities.cuda = true;
  capabilities.exchanges.push_back({"direct", false, true, GraphMode::full});
  capabilities.splits.emplace_back("balanced");
  capabilities.policies.push_back({"staged", 1, 8, 2});
  std::string text = replaced(kSmall, "iterations: 10", "device: cuda, exchange: direct");
  text = replaced(text, "ubatches: 2", "schedule: staged, split: balanced");
  EXPECT_EQ(error_of(text, 2, capabilities), "");
}

/// Which exchanges are known without being built is the build's to say, too.
TEST(Validate, CapabilitiesDecideWhatIsNotBuiltYet) {
  Capabilities capabilities = host_capabilities();
  const std::string text = replaced(kSmall, "iterations: 10", "exchange: copy_engine");
  EXPECT_NE(error_of(text, 2, capabilities).find("exchange 'copy_engine' is not built yet"),
            std::string::npos);
  ASSERT_EQ(capabilities.exchanges.back().name, "copy_engine");
  capabilities.exchanges.pop_back();
  EXPECT_NE(error_of(text, 2, capabilities).find("unknown exchange 'copy_engine'"),
            std::string::npos);
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
