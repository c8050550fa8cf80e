// What the tests of config share: a small valid experiment, a build to validate against, and
// random experiments.
#pragma once

#include <random>
#include <string>

#include "framework/config/experiment.hpp"
#include "framework/config/validate.hpp"

namespace dovetail::testing {

/// Valid; every line is a target of the tests, so line numbers matter.
inline const std::string kSmall = R"(experiment: small
model:
  architecture: qwen3_moe
  config: tiny.json
  weights: {seed: 42}
parallel: {expert_parallel: 2}
workload:
  phase: prefill
  requests: {count: 8, length: 128}
  rank_scale: [1.0, 0.75]
execution: {iterations: 10}
policies:
  - {name: sequential}
  - {name: dual_batch, ubatches: 2}
verify: {baseline: sequential, mode: tolerance}
record: {outputs: [hidden, logits]}
)";

/// `text` with the first occurrence of `from` replaced; fails the test if there is none.
std::string replaced(std::string text, const std::string& from, const std::string& to);

/// What the first path is built with.
Capabilities host_capabilities();

/// Any experiment that can be written down, legal or not in its cross-field rules.
Experiment random_experiment(std::mt19937_64& random);

}  // namespace dovetail::testing
