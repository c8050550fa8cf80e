#include "framework/compare/compare.hpp"

#include <algorithm>

#include "framework/base/error.hpp"
#include "framework/base/registry.hpp"
#include "framework/base/working_folder.hpp"
#include "framework/config/load.hpp"
#include "framework/record/run_folder.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

/// The policies of a run's experiment that have left nothing, because the run ended before them.
std::vector<PolicyResult> read_missing(const fs::path& run) {
  std::vector<PolicyResult> missing;
  const auto file = run / kExperimentFileName;
  if (!fs::exists(file)) {
    return missing;
  }
  for (const PolicyConfig& policy : load_experiment(file.string()).experiment.policies) {
    const auto folder = run / policy.name;
    if (fs::is_directory(folder) && fs::is_empty(folder)) {
      missing.emplace_back();
      missing.back().folder = folder;
      missing.back().name = policy.name;
      missing.back().status = "not_run";
      missing.back().problem = "has not run";
    }
  }
  return missing;
}

/// Policy folders as they are; run folders as their policies, by start time.
std::vector<PolicyResult> read_results(const std::vector<fs::path>& folders) {
  std::vector<PolicyResult> results;
  for (const fs::path& folder : folders) {
    if (!fs::is_directory(folder)) {
      throw InputError(folder.string() + ": no such folder" + working_folder_note(folder));
    }
    const std::vector<fs::path> policies = list_policy_folders(folder);
    if (policies.empty()) {
      results.push_back(read_policy_result(folder));
      continue;
    }
    std::vector<PolicyResult> run;
    run.reserve(policies.size());
    for (const fs::path& policy : policies) {
      run.push_back(read_policy_result(policy));
    }
    // What cannot be read has no start time; it goes last.
    std::stable_sort(run.begin(), run.end(), [](const auto& a, const auto& b) {
      return std::pair(a.started_at.empty(), a.started_at) <
             std::pair(b.started_at.empty(), b.started_at);
    });
    std::move(run.begin(), run.end(), std::back_inserter(results));
    auto missing = read_missing(folder);
    std::move(missing.begin(), missing.end(), std::back_inserter(results));
  }
  return results;
}

std::size_t find_baseline(const std::vector<PolicyComparison>& policies, const std::string& name) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < policies.size(); ++i) {
    if (name.empty() || policies[i].result.name == name) {
      return i;
    }
    names.push_back(policies[i].result.name);
  }
  throw InputError("no policy '" + name + "' to compare with; there are: " + join_names(names));
}

void add_note(PolicyComparison& policy, const std::string& text) {
  policy.note += (policy.note.empty() ? "" : "; ") + text;
}

void compare_with(const PolicyComparison& baseline, PolicyComparison& policy) {
  const PolicyResult& own = policy.result;
  const PolicyResult& other = baseline.result;
  if (!own.is_complete()) {
    add_note(policy, own.problem);
    return;
  }
  if (own.decisions.num_vetoed > 0) {
    add_note(policy,
             "vetoed in " + std::to_string(own.decisions.num_vetoed) + " of " +
                 std::to_string(own.decisions.num_steps) +
                 " steps: " + own.decisions.describe_vetoes());
  }
  if (other.is_complete() && own.device != other.device) {
    add_note(policy, "on " + own.device + ", the baseline on " + other.device);
  }
  if (own.step_ns.count == 0) {
    add_note(policy, "no timed step");
  } else if (!other.is_complete() || other.step_ns.count == 0) {
    add_note(policy, "no speed-up: the baseline has no times");
  } else if (own.inputs_digest != other.inputs_digest ||
             own.weights_digest != other.weights_digest) {
    add_note(policy, "no speed-up: other weights or inputs than the baseline");
  } else if (own.step_ns.p50 > 0) {
    policy.speed_up = other.step_ns.p50 / own.step_ns.p50;
  }
}

}  // namespace

std::optional<PolicyMetrics> metrics_of(const PolicyResult& result, const PolicyMetrics* baseline) {
  if (!result.is_complete() || result.profiles.empty()) {
    return std::nullopt;
  }
  return policy_metrics(result.profiles, result.step_ns.p50, baseline);
}

CompareReport compare_policies(const std::vector<fs::path>& folders,
                               const CompareOptions& options) {
  CompareReport report;
  for (PolicyResult& result : read_results(folders)) {
    report.policies.emplace_back().result = std::move(result);
  }
  if (report.policies.empty()) {
    throw InputError("no results to compare");
  }
  PolicyComparison& baseline = report.policies[find_baseline(report.policies, options.baseline)];
  report.baseline = baseline.result.name;
  baseline.metrics = metrics_of(baseline.result);
  for (PolicyComparison& policy : report.policies) {
    compare_with(baseline, policy);
    if (&policy != &baseline) {
      const bool same_work = policy.speed_up.has_value() && baseline.metrics.has_value();
      policy.metrics = metrics_of(policy.result, same_work ? &*baseline.metrics : nullptr);
    }
  }
  return report;
}

}  // namespace dovetail
