#include "framework/compare/compared_runs.hpp"

#include <algorithm>
#include <optional>
#include <set>
#include <tuple>

#include "framework/base/error.hpp"
#include "framework/base/file_system.hpp"
#include "framework/base/registry.hpp"
#include "framework/base/working_folder.hpp"
#include "framework/compare/recorded_verdict.hpp"
#include "framework/config/load.hpp"
#include "framework/record/run_folder.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

/// The policies of a run's experiment that have left nothing, because the run ended before them.
std::vector<PolicyResult> find_missing(const fs::path& run, const Experiment& experiment) {
  std::vector<PolicyResult> missing;
  for (const PolicyConfig& policy : experiment.policies) {
    const auto folder = run / policy.name;
    if (is_folder(folder) && list_folder(folder).empty()) {
      missing.emplace_back();
      missing.back().folder = folder;
      missing.back().name = policy.name;
      missing.back().status = "not_run";
      missing.back().problem = "has not run";
    }
  }
  return missing;
}

/// `where`: in front of the message; empty = there is one run only.
std::size_t find_baseline(const std::string& where,
                          const std::vector<PolicyResult>& policies,
                          const std::string& name) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < policies.size(); ++i) {
    if (name.empty() || policies[i].name == name) {
      return i;
    }
    names.push_back(policies[i].name);
  }
  throw InputError((where.empty() ? "" : where + ": ") + "no policy '" + name +
                   "' to compare with; there are: " + join_names(names));
}

std::ptrdiff_t place_of(const std::string& name, const Experiment& experiment) {
  const auto& policies = experiment.policies;
  return std::find_if(policies.begin(),
                      policies.end(),
                      [&](const PolicyConfig& policy) { return policy.name == name; }) -
         policies.begin();
}

ComparedRun read_run(const fs::path& folder,
                     const std::string& where,
                     const std::vector<fs::path>& policies,
                     std::string baseline) {
  ComparedRun run;
  for (const fs::path& policy : policies) {
    run.policies.push_back(read_judged_result(policy));
  }
  std::optional<Experiment> experiment;
  if (const auto file = folder / kExperimentFileName; path_exists(file)) {
    experiment = load_experiment(file.string()).experiment;
  }
  // What cannot be read has no start time; it goes last.
  const auto order = [&](const PolicyResult& policy) {
    const auto place = experiment ? place_of(policy.name, *experiment) : 0;
    return std::tuple(policy.started_at.empty(), place, policy.started_at);
  };
  std::stable_sort(run.policies.begin(), run.policies.end(), [&](const auto& a, const auto& b) {
    return order(a) < order(b);
  });
  if (experiment) {
    auto missing = find_missing(folder, *experiment);
    std::move(missing.begin(), missing.end(), std::back_inserter(run.policies));
    baseline = baseline.empty() ? experiment->verify.baseline : baseline;
  }
  run.baseline = find_baseline(where, run.policies, baseline);
  return run;
}

/// One for each folder, however it is written.
fs::path real_path(const fs::path& folder) {
  const auto path = real_path_of(folder);
  return path.has_filename() ? path : path.parent_path();
}

/// The last `count` parts of a path: "b/c" of "/a/b/c".
std::string last_parts(const fs::path& path, std::size_t count) {
  std::vector<fs::path> parts(path.begin(), path.end());
  fs::path label;
  for (std::size_t i = parts.size() - std::min(count, parts.size()); i < parts.size(); ++i) {
    label /= parts[i];
  }
  return label.string();
}

}  // namespace

PolicyResult read_judged_result(const fs::path& folder) {
  PolicyResult result = read_policy_result(folder);
  auto verdict = read_recorded_verdict(folder);
  result.remark = std::move(verdict.remark);
  if (result.is_complete() && !verdict.problem.empty()) {
    result.status = std::move(verdict.status);
    result.problem = std::move(verdict.problem);
    result.step_ns = {};
    result.profiles.clear();
  }
  return result;
}

std::vector<ComparedRun> read_compared_runs(const std::vector<fs::path>& folders,
                                            const std::string& baseline) {
  std::vector<ComparedRun> runs;
  std::set<fs::path> read;  // runs and policies
  std::vector<fs::path> own_policies;
  for (const fs::path& folder : folders) {
    if (!is_folder(folder)) {
      throw InputError(folder.string() + ": no such folder" + working_folder_note(folder));
    }
    const std::vector<fs::path> policies = list_policy_folders(folder);
    if (policies.empty()) {
      own_policies.push_back(folder);
    } else if (read.insert(real_path(folder)).second) {
      runs.push_back(
          read_run(folder, folders.size() > 1 ? folder.string() : "", policies, baseline));
    }
  }
  ComparedRun named;
  for (const fs::path& folder : own_policies) {
    const auto path = real_path(folder);
    if (read.count(path.parent_path()) == 0 && read.insert(path).second) {
      named.policies.push_back(read_judged_result(folder));
    }
  }
  if (!named.policies.empty()) {
    named.baseline = find_baseline("", named.policies, baseline);
    runs.push_back(std::move(named));
  }
  if (runs.empty()) {
    throw InputError("no results to compare");
  }
  return runs;
}

fs::path find_policy_folder(const std::vector<ComparedRun>& runs, const std::string& name) {
  const fs::path wanted = name;
  const auto num_parts = static_cast<std::size_t>(std::distance(wanted.begin(), wanted.end()));
  std::vector<fs::path> all;
  std::set<fs::path> meant;
  for (const ComparedRun& run : runs) {
    for (const PolicyResult& policy : run.policies) {
      all.push_back(policy.folder);
      if (const auto path = real_path(policy.folder); last_parts(path, num_parts) == name) {
        meant.insert(path);
      }
    }
  }
  if (is_folder(wanted)) {
    meant.insert(real_path(wanted));
  }
  if (meant.empty()) {
    const auto labels = run_labels(all);
    std::vector<std::string> known;
    known.reserve(all.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
      known.push_back((fs::path(labels[i]) / real_path(all[i]).filename()).string());
    }
    throw InputError(
        "no such folder, and no policy of that label; allowed: the name of a policy, "
        "a label (" +
        join_names(known) + "), or the path of the folder of a policy");
  }
  if (meant.size() > 1) {
    const std::vector<std::string> paths(meant.begin(), meant.end());
    throw InputError("may be any of " + join_names(paths) +
                     "; allowed: as much of the path as "
                     "tells it from the others");
  }
  return *meant.begin();
}

std::vector<std::string> run_labels(const std::vector<fs::path>& policy_folders) {
  std::vector<fs::path> runs;
  runs.reserve(policy_folders.size());
  for (const fs::path& folder : policy_folders) {
    runs.push_back(real_path(folder).parent_path());
  }
  std::vector<std::string> labels;
  for (const fs::path& run : runs) {
    std::size_t count = 1;
    const auto is_shared = [&](const fs::path& other) {
      return other != run && last_parts(other, count) == last_parts(run, count);
    };
    while (std::any_of(runs.begin(), runs.end(), is_shared)) {
      ++count;
    }
    labels.push_back(last_parts(run, count));
  }
  return labels;
}

}  // namespace dovetail
