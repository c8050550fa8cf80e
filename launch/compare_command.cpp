// `dovetail compare`: times of policies or of whole runs, and where the time goes.
#include <filesystem>
#include <iostream>
#include <optional>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/compare/compare.hpp"
#include "framework/compare/sweep_result.hpp"
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

/// The folder of a sweep, which is compared alone.
std::optional<std::filesystem::path> find_sweep(const std::vector<std::string>& folders) {
  for (const std::filesystem::path folder : folders) {
    if (!std::filesystem::exists(folder / kSweepFileName)) {
      continue;
    }
    if (folders.size() > 1) {
      throw InputError(folder.string() +
                       ": is a sweep; allowed: it alone, or run folders and policy folders");
    }
    return folder;
  }
  return std::nullopt;
}

int print_sweep(const std::filesystem::path& folder, OutputFormat format) {
  const auto result = read_sweep_result(folder);
  if (format == OutputFormat::json) {
    std::cout << to_json(result).dump(2) << "\n";
  } else {
    std::cout << to_text(result);
  }
  return kExitDone;
}

}  // namespace

int compare_command(const CompareCommandOptions& options) {
  if (const auto sweep = find_sweep(options.folders)) {
    return print_sweep(*sweep, options.format);
  }
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
