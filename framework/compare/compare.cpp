#include "framework/compare/compare.hpp"

#include <algorithm>
#include <cmath>

#include "framework/base/error.hpp"
#include "framework/base/file_system.hpp"
#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"
#include "framework/compare/compared_runs.hpp"
#include "framework/compare/table.hpp"
#include "framework/config/execution_config.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

/// The policy that all others are compared with.
struct NamedBaseline {
  PolicyResult result;
  std::optional<PolicyMetrics> metrics;
};

/// Not the name of a policy of each run, which has no folder in it.
bool names_one_policy(const std::string& baseline) {
  return baseline.find('/') != std::string::npos;
}

/// `name` as the folder of a policy; nothing where it is the name of a policy of each run.
std::optional<NamedBaseline> read_named_baseline(const std::vector<ComparedRun>& runs,
                                                 const std::string& name) {
  if (!names_one_policy(name)) {
    return std::nullopt;
  }
  try {
    NamedBaseline baseline{read_judged_result(find_policy_folder(runs, name)), std::nullopt};
    baseline.metrics = metrics_of(baseline.result);
    return baseline;
  } catch (const InputError& error) {
    throw InputError("--baseline " + name + ": " + error.what());
  }
}

void add_note(PolicyComparison& policy, const std::string& text) {
  policy.notes.push_back(text);
}

/// The speed-up, how sure it is, and a note where it may be none.
void set_speed_up(const PolicyResult& baseline, PolicyComparison& policy) {
  if (is_same_file(policy.result.folder, baseline.folder)) {
    policy.speed_up = 1;
    return;
  }
  const auto speed_up = speed_up_of(baseline, policy.result);
  policy.speed_up = speed_up.value;
  policy.speed_up_interval = speed_up.interval;
  policy.basis = speed_up.basis;
  policy.counts = speed_up.counts();
  if (!speed_up.interval) {
    return;
  }
  if (speed_up.basis == SpeedUpBasis::runs) {
    add_note(policy,
             "of another run than the baseline: how runs differ is not known, so no difference is "
             "claimed");
  } else if (speed_up.basis == SpeedUpBasis::steps) {
    const auto rounds = std::ssize(policy.result.round_ns);
    add_note(policy,
             "over the steps of " + (rounds > 1 ? counted(rounds, "round") : "one round") +
                 ": how rounds differ is not known; set execution.rounds");
  } else if (policy.result.name == kControlPolicy) {
    add_note(policy,
             *policy.counts
                 ? "a second copy of the baseline differs from it: the run was not quiet, "
                   "and differences of this size mean nothing"
                 : "a second copy of the baseline, as fast as it");
  } else if (!*policy.counts) {
    add_note(policy, "no difference from the baseline is shown");
  }
}

/// "step times grow by 4.1 % (3.0 % to 5.2 %) over the run".
void note_drift(const std::optional<Drift>& drift, const char* over, PolicyComparison& policy) {
  if (drift && drift->matters()) {
    add_note(policy,
             std::string("drift: step times ") + (drift->change > 0 ? "grow" : "fall") + " by " +
                 format_percent(std::abs(drift->change)) + " " + over +
                 " (95 %: " + format_percent(drift->interval.low) + " to " +
                 format_percent(drift->interval.high) + ")");
  }
}

/// "graph full in place of none, exchange ragged in place of gather".
std::string other_execution(const PolicyResult& baseline, const PolicyResult& own) {
  std::vector<std::string> others;
  if (baseline.execution && own.execution) {
    const auto add = [&](const std::string& what, std::string_view own_one, std::string_view one) {
      if (own_one != one) {
        others.push_back(what + " " + std::string(own_one) + " in place of " + std::string(one));
      }
    };
    add("graph", to_string(own.execution->graph), to_string(baseline.execution->graph));
    add("exchange", own.execution->exchange, baseline.execution->exchange);
  }
  return join_names(others);
}

/// Speed-up and notes.
void compare_with(const PolicyResult& other, PolicyComparison& policy) {
  const PolicyResult& own = policy.result;
  if (!own.is_complete()) {
    add_note(policy, own.problem);
  }
  if (!own.remark.empty()) {
    add_note(policy, own.remark);
  }
  if (!own.is_complete()) {
    return;
  }
  if (!own.hole.empty()) {
    add_note(policy, own.hole);
  }
  if (own.decisions.num_vetoed > 0) {
    add_note(policy,
             "vetoed in " + std::to_string(own.decisions.num_vetoed) + " of " +
                 counted(own.decisions.num_steps, "step") + ": " + own.decisions.describe_vetoes());
  }
  if (own.has_ended_early()) {
    add_note(policy,
             "precise enough after " + std::to_string(own.step_ns.count) + " of " +
                 counted(own.most_iterations, "iteration"));
  }
  policy.other_execution = other_execution(other, own);
  note_drift(own.run_drift, "over the run", policy);
  note_drift(own.round_drift, "within rounds", policy);
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
    set_speed_up(other, policy);
  }
}

/// Names runs and baselines, so that equal names of policies are told apart.
void set_labels(CompareReport& report) {
  std::vector<fs::path> folders;
  for (const PolicyComparison& policy : report.policies) {
    folders.push_back(policy.result.folder);
    folders.push_back(policy.baseline_folder);
  }
  const auto labels = run_labels(folders);
  report.baseline = report.policies.front().baseline;
  for (std::size_t i = 0; i < report.policies.size(); ++i) {
    report.policies[i].run = labels[2 * i];
    report.has_several_runs = report.has_several_runs || labels[2 * i] != labels.front() ||
                              labels[2 * i + 1] != labels.front();
  }
  for (std::size_t i = 0; report.has_several_runs && i < report.policies.size(); ++i) {
    report.policies[i].baseline = labels[2 * i + 1] + "/" + report.policies[i].baseline;
  }
}

}  // namespace

std::string PolicyComparison::note() const {
  return join_names(notes, "; ");
}

std::optional<PolicyMetrics> metrics_of(const PolicyResult& result, const PolicyMetrics* baseline) {
  if (!result.is_complete() || result.profiles.empty()) {
    return std::nullopt;
  }
  return policy_metrics(result.profiles, result.step_ns.p50, baseline);
}

int exit_code_of(const CompareReport& report) {
  const bool all_read = std::all_of(report.policies.begin(),
                                    report.policies.end(),
                                    [](const auto& policy) { return policy.result.is_read(); });
  return all_read ? kExitDone : kExitBadInput;
}

CompareReport compare_policies(const std::vector<fs::path>& folders,
                               const CompareOptions& options) {
  auto runs =
      read_compared_runs(folders, names_one_policy(options.baseline) ? "" : options.baseline);
  const auto named = read_named_baseline(runs, options.baseline);
  CompareReport report;
  for (ComparedRun& run : runs) {
    const std::size_t first = report.policies.size();
    for (PolicyResult& result : run.policies) {
      report.policies.emplace_back().result = std::move(result);
    }
    const std::size_t own = first + run.baseline;
    const PolicyResult& baseline = named ? named->result : report.policies[own].result;
    const auto metrics = named ? named->metrics : metrics_of(baseline);
    for (std::size_t i = first; i < report.policies.size(); ++i) {
      PolicyComparison& policy = report.policies[i];
      policy.baseline = baseline.name;
      policy.baseline_folder = baseline.folder;
      compare_with(baseline, policy);
      const bool is_baseline =
          named ? is_same_file(policy.result.folder, baseline.folder) : i == own;
      const bool same_work = policy.speed_up.has_value() && metrics.has_value();
      policy.metrics = metrics_of(policy.result, same_work && !is_baseline ? &*metrics : nullptr);
    }
  }
  set_labels(report);
  return report;
}

}  // namespace dovetail
