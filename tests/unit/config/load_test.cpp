// Strict reading: what is accepted, and where and how everything else fails.
#include "framework/config/load.hpp"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "framework/base/scratch_folder.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/pipe_file.hpp"
#include "tests/unit/config/config_samples.hpp"

namespace dovetail {
namespace {

using testing::kSmall;
using testing::replaced;

TEST(Load, ReadsWhatIsStatedAndLeavesDefaults) {
  const Experiment experiment = parse_experiment(kSmall, "x").experiment;
  Experiment expected;
  expected.experiment = "small";
  expected.model = {"qwen3_moe", "tiny.json", SeedWeights{42}, AllLayers{}};
  expected.parallel.expert_parallel = 2;
  expected.workload.requests = {UniformRequests{8, 128, 0}};
  expected.workload.rank_scale = {1.0, 0.75};
  expected.policies.resize(2);
  expected.policies[0].name = expected.policies[0].schedule = "sequential";
  expected.policies[1].name = expected.policies[1].schedule = "dual_batch";
  expected.policies[1].ubatches = 2;
  expected.verify = {"sequential", VerifyMode::tolerance, VerifyRouting::natural};
  EXPECT_EQ(experiment, expected);
}

TEST(Load, NoneOfASectionIsAsIfItWereNotThere) {
  const std::string stated = "verify: {baseline: sequential, mode: tolerance}";
  const Experiment without = parse_experiment(replaced(kSmall, stated, ""), "x").experiment;
  EXPECT_EQ(without.verify.mode, VerifyMode::none);
  EXPECT_EQ(parse_experiment(replaced(kSmall, stated, "verify: none"), "x").experiment, without);
  EXPECT_EQ(parse_experiment(kSmall, "x", {"verify=none"}).experiment, without);
  EXPECT_NE(testing::input_error_of([&] { parse_experiment(kSmall, "x", {"verify=\"none\""}); }),
            "")
      << "text, which the word is not";

  const std::string limits = "policies.dual_batch.thresholds={prefill: 9}";
  const Experiment small = parse_experiment(kSmall, "x").experiment;
  EXPECT_NE(parse_experiment(kSmall, "x", {limits}).experiment, small);
  EXPECT_EQ(
      parse_experiment(kSmall, "x", {limits, "policies.dual_batch.thresholds=none"}).experiment,
      small);
}

TEST(Load, PolicyFieldsLieOverTheExperiments) {
  std::string text =
      replaced(kSmall, "{iterations: 10}", "{iterations: 11, warmup: 4, graph: full}");
  text = replaced(text,
                  "ubatches: 2}",
                  "ubatches: 2, iterations: 3, hand_off: inline, split: {sizes: [5, 0]}}");
  const Experiment experiment = parse_experiment(text, "x").experiment;
  EXPECT_EQ(experiment.policies[0].execution, experiment.execution);
  ExecutionConfig expected = experiment.execution;
  EXPECT_EQ(expected.iterations, 11);
  EXPECT_EQ(expected.graph, GraphMode::full);
  expected.iterations = 3;
  expected.hand_off = HandOff::inline_walk;
  EXPECT_EQ(experiment.policies[1].execution, expected);
  EXPECT_EQ(experiment.policies[1].split, (SplitConfig{"sizes", {5, 0}}));
}

/// The file of the design, with everything it can state.
TEST(Load, TheWholeDesign) {
  const std::string text = R"(# comment
experiment: quickstart
model:
  architecture: qwen3_moe
  config: models/configs/qwen3-moe-tiny.json
  weights: {seed: 18446744073709551615}
  layers: [0, 4]
parallel: {expert_parallel: 2}
workload:
  phase: decode
  requests: {count: 128, context_length: 1024}
  seed: 7
  inputs: embeds
  positions: mrope
  rank_scale: [1, 0]
  routing: {zipf: 1.2}
  context: random
  steps: 4
execution: {device: auto, dtype: float32, numerics: fast, warmup: 2, iterations: 10, graph: none, hand_off: threads, exchange: auto, comm_sms: 8, padded_capacity: 0.5, timeout_s: 60, page_size: 32, cache_tokens: 65536, link: {latency_us: 20, gbytes_per_s: 2.5}}
policies:
  - {name: sequential}
  - {name: dual_batch, ubatches: 2, split: token_midpoint, thresholds: {prefill: 512, decode: 32}}
  - {name: dual_inline, schedule: dual_batch, hand_off: inline, link: none, page_size: 8, padded_capacity: 1}
verify: {baseline: sequential, mode: bitwise, routing: replay}
record: {outputs: [hidden, logits, logits_all, layers, routing], timing: ops, profiled_iterations: 5}
fault: {rank: 1, ubatch: 1, layer: -1, phase: embed, iteration: 3, kind: hang, token: 4, choice: 0, element: 5, policy: overlap}
)";
  const Experiment experiment = parse_experiment(text, "x").experiment;
  EXPECT_EQ(experiment.model.layers, LayersConfig(LayerRange{0, 4}));
  EXPECT_EQ(experiment.model.weights, WeightsConfig(SeedWeights{18446744073709551615U}));
  EXPECT_EQ(experiment.workload.requests, (RequestsConfig{UniformRequests{128, 1, 1024}}));
  EXPECT_EQ(experiment.workload.routing, RoutingConfig(ZipfRouting{1.2}));
  EXPECT_EQ(experiment.workload.rank_scale, (std::vector<double>{1.0, 0.0}));
  EXPECT_EQ(experiment.workload.inputs, (InputsConfig{InputKind::embeds, ""}));
  EXPECT_EQ(experiment.workload.context, ContextFill::random);
  EXPECT_EQ(experiment.workload.steps, 4);
  EXPECT_EQ(experiment.execution.page_size, 32);
  EXPECT_EQ(experiment.execution.cache_tokens, 65536);
  EXPECT_EQ(experiment.execution.link, (LinkConfig{20.0, 2.5}));
  EXPECT_EQ(experiment.policies[1].execution.link, experiment.execution.link);
  EXPECT_EQ(experiment.policies[2].execution.link, std::nullopt);
  EXPECT_EQ(experiment.policies[2].execution.page_size, 8);
  EXPECT_EQ(experiment.policies[1].execution.padded_capacity, 0.5);
  EXPECT_EQ(experiment.policies[2].execution.padded_capacity, 1.0);
  EXPECT_EQ(experiment.policies[1].thresholds, (ThresholdsConfig{512, 32}));
  EXPECT_EQ(experiment.policies[2].schedule, "dual_batch");
  EXPECT_TRUE(experiment.record.has(RecordedOutput::routing));
  EXPECT_EQ(experiment.faults,
            (std::vector{FaultConfig{FaultKind::hang, 1, 1, -1, "embed", 3, 4, 0, 5, "overlap"}}));
}

TEST(Load, Requests) {
  const auto requests = [](const std::string& phase, const std::string& requests_text) {
    std::string text = replaced(kSmall, "phase: prefill", "phase: " + phase);
    text = replaced(text, "requests: {count: 8, length: 128}", "requests: " + requests_text);
    return parse_experiment(text, "x").experiment.workload.requests;
  };
  EXPECT_EQ(requests("decode", "{count: 3, context_length: 9}"),
            (RequestsConfig{UniformRequests{3, 1, 9}}));
  EXPECT_EQ(requests("decode", "{context_lengths: [5, 0]}"),
            (RequestsConfig{RequestLengths{{1, 1}, {5, 0}}}));
  EXPECT_EQ(requests("prefill", "{lengths: [3, 4], context_lengths: [5, 0]}"),
            (RequestsConfig{RequestLengths{{3, 4}, {5, 0}}}));
  EXPECT_EQ(requests("decode", "{lognormal: {count: 2, median: 80, sigma: 0.5}}"),
            (RequestsConfig{LognormalRequests{2, 80.0, 0.5, 0, 0}}));
  EXPECT_EQ(
      requests("mixed",
               "{lognormal: {count: 2, median: 80, sigma: 0.5, max_length: 7, context_length: 6}}"),
      (RequestsConfig{LognormalRequests{2, 80.0, 0.5, 7, 6}}));
  EXPECT_EQ(requests("mixed", "{file: a.jsonl}"), (RequestsConfig{RequestFile{"a.jsonl"}}));
  EXPECT_EQ(requests("mixed", "[{count: 2, length: 1, context_length: 9}, {lengths: [30]}]"),
            (RequestsConfig{UniformRequests{2, 1, 9}, RequestLengths{{30}, {}}}));
}

TEST(Load, HiddenInputs) {
  const std::string text =
      replaced(kSmall, "phase: prefill", "inputs: {hidden: results/a/sequential}");
  EXPECT_EQ(parse_experiment(text, "x").experiment.workload.inputs,
            (InputsConfig{InputKind::hidden, "results/a/sequential"}));
}

TEST(Load, AnchorsAreCopies) {
  std::string text = replaced(kSmall, "{iterations: 10}", "&e {iterations: 10}");
  text = replaced(text, "ubatches: 2}", "ubatches: &n 2, thresholds: {prefill: *n, decode: *n}}");
  const Experiment experiment = parse_experiment(text, "x").experiment;
  EXPECT_EQ(experiment.policies[1].thresholds, (ThresholdsConfig{2, 2}));
}

TEST(Load, WindowsLineEndsAndByteOrderMark) {
  std::string text = "\xef\xbb\xbf";
  for (const char c : kSmall) {
    text += c == '\n' ? std::string("\r\n") : std::string(1, c);
  }
  EXPECT_EQ(parse_experiment(text, "x").experiment, parse_experiment(kSmall, "x").experiment);
}

TEST(Load, WholeTexts) {
  const auto error = [](const std::string& text) {
    return testing::input_error_of([&] { parse_experiment(text, "bad.yaml"); });
  };
  EXPECT_EQ(error(""), "bad.yaml:1:1: no YAML document: the text is empty");
  EXPECT_EQ(error("# nothing\n\n"), "bad.yaml:1:1: no YAML document: the text is empty");
  EXPECT_TRUE(error("---\n").starts_with("bad.yaml:")) << error("---\n");
  EXPECT_NE(error("---\n").find("expected a map"), std::string::npos);
  EXPECT_TRUE(error("[1, 2]").starts_with("bad.yaml:1:1: expected a map with keys of experiment,"));
  for (const std::string open : {"[", "{", "- ", "? ", "[{a: ", "a: &a "}) {
    std::string deep;
    for (int i = 0; i < 20'000; ++i) {
      deep += open;
    }
    EXPECT_TRUE(error(deep).starts_with("bad.yaml:1:")) << open << error(deep);
  }
  // Ten levels of ten aliases: more values than any memory holds.
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string alias = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + alias;
    for (int k = 0; k < 9; ++k) {
      bomb += ", " + alias;
    }
    bomb += "]\n";
  }
  EXPECT_NE(error(bomb).find("too many values; allowed: 100000"), std::string::npos);
}

TEST(Load, Files) {
  const auto error = [](const std::string& path) {
    return testing::input_error_of([&] { load_experiment(path); });
  };
  const ScratchFolder scratch;
  const std::string folder = scratch.path().string() + "/";
  EXPECT_EQ(error(folder + "absent.yaml"),
            folder +
                "absent.yaml: cannot be opened or read: No such file or directory; allowed: an "
                "experiment in YAML");
  EXPECT_EQ(
      error(folder),
      folder + ": cannot be opened or read: not a regular file; allowed: an experiment in YAML");

  const std::string file = folder + "experiment.yaml";
  testing::expect_pipe_refused(file, [&] { read_experiment_file(file); });
  std::filesystem::remove(file);
  const auto write = [&file](const std::string& text) {
    std::ofstream(file, std::ios::binary) << text;
  };
  write("");
  EXPECT_EQ(error(file), file + ":1:1: no YAML document: the text is empty");
  write(kSmall + "extra: 1\n");
  EXPECT_TRUE(error(file).starts_with(file + ":17:1: unknown key 'extra'"));
  write(std::string((1U << 20U) + 1, '#'));
  EXPECT_EQ(error(file), file + ": larger than 1 MiB; allowed: an experiment in YAML");
  write(kSmall);
  EXPECT_EQ(load_experiment(file).experiment, parse_experiment(kSmall, "x").experiment);
  EXPECT_EQ(read_experiment_file(file), kSmall);
}

}  // namespace
}  // namespace dovetail
