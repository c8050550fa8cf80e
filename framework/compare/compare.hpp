// Compares the times of policies: step time, speed-up, where the time goes.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "framework/compare/bootstrap.hpp"
#include "framework/compare/metrics.hpp"
#include "framework/compare/policy_result.hpp"
#include "framework/compare/quantities.hpp"

namespace dovetail {

struct CompareOptions {
  /// What policies are compared with: the policy of that name in their own run; or for all of them
  /// one policy, by its label in the tables or its path (RUN/POLICY; compared_runs.hpp). Empty: the
  /// baseline of their own run.
  std::string baseline;
};

struct PolicyComparison {
  PolicyResult result;
  std::string run;       ///< the run's folder, as much of its path as tells it from the others
  std::string baseline;  ///< name; where there are several runs "run/name"
  std::filesystem::path baseline_folder;
  std::optional<double> speed_up;  ///< over the baseline: speed_up_of
  /// Of speed_up; nothing for the baseline itself, and with too few rounds and steps.
  std::optional<ConfidenceInterval> speed_up_interval;
  std::optional<SpeedUpBasis> basis;  ///< of the interval; nothing for the baseline itself
  std::optional<bool> counts;         ///< whether there is a difference: SpeedUp::counts
  /// What is another one than the baseline's: "graph full in place of none"; empty: nothing.
  std::string other_execution;
  std::optional<PolicyMetrics> metrics;  ///< nothing without profiled steps
  /// Vetoes, why there is no speed-up, what is wrong with the run: what is said of it alone.
  std::vector<std::string> notes;

  /// All notes in one line.
  std::string note() const;
};

struct CompareReport {
  std::string baseline;                    ///< name of that of the first run
  bool has_several_runs = false;           ///< policies or baselines are of several runs
  std::vector<PolicyComparison> policies;  ///< in the order given; in a run the experiment's
};

/// `folders`: policy folders or run folders. Each run has its own baseline (compared_runs.hpp), so
/// what is said of it does not depend on the other runs. A run that failed, is incomplete or was
/// marked invalid is listed with its status and without times. No speed-up against a baseline with
/// other weights or inputs. Throws InputError for a folder that does not exist or has no results,
/// and for a baseline that is not there.
CompareReport compare_policies(const std::vector<std::filesystem::path>& folders,
                               const CompareOptions& options = {});

/// kExitBadInput where files of a policy are missing or damaged, or a complete one lacks times;
/// else kExitDone: a run that failed or was stopped says so itself.
int exit_code_of(const CompareReport& report);

/// The metrics of a complete result; nothing without profiled steps.
std::optional<PolicyMetrics> metrics_of(const PolicyResult& result,
                                        const PolicyMetrics* baseline = nullptr);

/// Tables for people: step times; where a policy has several kinds of steps these apart; where one
/// ran on a GPU its graphs, the host's share and memory; the terms that add up to the step;
/// factors. Below them what is not counted, and how to get what is missing. Tables wider than
/// `width` are cut into blocks; 0: none is.
std::string to_text(const CompareReport& report, std::size_t width = 0);

/// The tables that to_text prints.
std::vector<Report> reports_of(const CompareReport& report);

nlohmann::json to_json(const CompareReport& report);
/// What the steps of a complete result take before they begin; null where not known.
nlohmann::json before_json(const PolicyResult& result);
/// When the rounds of a complete result began, and the median of each; null where not known.
nlohmann::json rounds_json(const PolicyResult& result);
/// Of a complete result; null where it is not known.
nlohmann::json drift_json(const PolicyResult& result);
/// [low, high], or null.
nlohmann::json interval_json(const std::optional<ConfidenceInterval>& interval);
nlohmann::json to_json(const PolicyMetrics& metrics);
nlohmann::json to_json(const DecisionCounts& counts);
/// Graphs and memory of a complete result; null where not known.
nlohmann::json graphs_json(const PolicyResult& result);
nlohmann::json memory_json(const PolicyResult& result);

}  // namespace dovetail
