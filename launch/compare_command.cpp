// `dovetail compare`: times of policies or of whole runs, and where the time goes.
#include <filesystem>
#include <iostream>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/compare/compare.hpp"
#include "framework/config/load.hpp"
#include "framework/record/run_folder.hpp"
#include "launch/commands.hpp"

namespace dovetail {
namespace {

/// What a whole run was verified against is also what its policies are compared with; empty (the
/// first policy) for single policy folders.
std::string default_baseline(const std::vector<std::string>& folders) {
  const auto experiment = std::filesystem::path(folders.front()) / kExperimentFileName;
  return std::filesystem::exists(experiment)
             ? load_experiment(experiment.string()).experiment.verify.baseline
             : "";
}

}  // namespace

int compare_command(const CompareCommandOptions& options) {
  const auto baseline =
      options.baseline.empty() ? default_baseline(options.folders) : options.baseline;
  const auto report =
      compare_policies({options.folders.begin(), options.folders.end()}, {.baseline = baseline});
  if (options.format == OutputFormat::json) {
    std::cout << to_json(report).dump(2) << "\n";
  } else {
    std::cout << to_text(report);
  }
  return kExitDone;
}

}  // namespace dovetail
