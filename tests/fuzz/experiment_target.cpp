// Experiment files, with the arguments of --set as comments "#--set key=value".
#include <sstream>

#include "framework/config/dump.hpp"
#include "framework/config/load.hpp"
#include "framework/config/sweep.hpp"
#include "framework/config/validate.hpp"
#include "tests/fuzz/inputs.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/unit/config/config_samples.hpp"

namespace dovetail::fuzz {
namespace {

/// More than what the tests of config have: all that the seeds name.
Capabilities capabilities() {
  auto all = testing::host_capabilities();
  all.policies.push_back({"staged", 1, 8, 2});
  all.policies.push_back({"expert_groups", 1, 8, 1, 16});
  all.splits.emplace_back("balanced");
  return all;
}

std::vector<std::string> overrides_of(const std::string& text) {
  static const std::string mark = "#--set ";
  std::vector<std::string> overrides;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(mark)) {
      overrides.push_back(line.substr(mark.size()));
    }
  }
  return overrides;
}

void check(const std::string& text, const std::vector<std::string>& overrides) {
  const auto loaded = parse_experiment(text, "fuzz", overrides);
  require(parse_experiment(dump(loaded.experiment), "dump").experiment == loaded.experiment,
          "the dump reads as another experiment");
  validate(loaded, capabilities(), 2);
}

/// Its first points and its last.
void check_points(const std::string& text, const std::vector<std::string>& overrides) {
  const Sweep sweep(text, "fuzz", overrides);
  require(sweep.num_points() <= Sweep::kMaxPoints, "too many points");
  for (const std::size_t point : {std::size_t{0}, sweep.num_points() - 1}) {
    validate(sweep.load(point), capabilities(), 2);
  }
}

std::vector<std::string> seeds() {
  auto found = files({"experiments/quickstart.yaml",
                      "experiments/sweep_tokens.yaml",
                      "experiments/own_policy.yaml",
                      "experiments/emulated_link.yaml",
                      "experiments/mixed.yaml"});
  found.push_back(testing::kSmall);
  found.push_back(testing::kSmall + "sweep:\n  workload.seed: [1, of\n\n    two lines, 2]\n");
  found.push_back("#--set policies.dual_batch.thresholds={prefill: 5}\n" + testing::kSmall);
  return found;
}

std::vector<std::string> tokens() {
  return {"{",
          "}",
          "[",
          "]",
          ",",
          ": ",
          "- ",
          "\n",
          "  ",
          "&a ",
          "*a",
          "!!str ",
          "? ",
          "|",
          ">",
          "\"",
          "'",
          "#",
          "--",
          "\t",
          "~",
          "<<",
          "%",
          "\n---\n",
          "nan",
          "\xff",
          "\x04",
          "\r",
          "&a [*a]",
          "\n#--set ",
          "sweep:",
          "axes",
          "name: ",
          "ubatches: ",
          "groups: ",
          "stages: ",
          "weights: {checkpoint: ",
          "true",
          "null"};
}

bool accepts(const std::string& bytes) {
  const auto overrides = overrides_of(bytes);
  // What --set says is named by --set, whatever file it follows.
  const std::string name = overrides.empty() ? "fuzz" : "";
  const bool accepted = is_read(name, [&] { check(bytes, overrides); });
  return is_read(name, [&] { check_points(bytes, overrides); }) && accepted;
}

const TargetOfProgram kTarget({seeds, tokens, accepts});

}  // namespace
}  // namespace dovetail::fuzz
