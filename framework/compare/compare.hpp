// Compares the times of policies: step time, speed-up, where the time goes.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "framework/compare/metrics.hpp"
#include "framework/compare/policy_result.hpp"

namespace dovetail {

struct CompareOptions {
  std::string baseline;  ///< name of the policy that others are compared with; empty = the first
};

struct PolicyComparison {
  PolicyResult result;
  std::optional<double> speed_up;        ///< baseline p50 over own p50
  std::optional<PolicyMetrics> metrics;  ///< nothing without profiled steps
  std::string note;  ///< vetoes, why there is no speed-up, what is wrong with the run
};

struct CompareReport {
  std::string baseline;                    ///< name
  std::vector<PolicyComparison> policies;  ///< in the order given; in a run by start time
};

/// `folders`: policy folders or run folders. A run that failed, is incomplete or was marked invalid
/// is listed with its status and without times. No speed-up against a baseline with other weights
/// or inputs. Throws InputError for a folder that does not exist or has no results, and for a
/// baseline that is not among them.
CompareReport compare_policies(const std::vector<std::filesystem::path>& folders,
                               const CompareOptions& options = {});

/// The metrics of a complete result; nothing without profiled steps.
std::optional<PolicyMetrics> metrics_of(const PolicyResult& result,
                                        const PolicyMetrics* baseline = nullptr);

/// Tables for people: step times; where a policy ran on a GPU its graphs, the host's share and
/// memory; the terms that add up to the step; factors.
std::string to_text(const CompareReport& report);

nlohmann::json to_json(const CompareReport& report);
nlohmann::json to_json(const Statistics& statistics);
nlohmann::json to_json(const PolicyMetrics& metrics);
nlohmann::json to_json(const DecisionCounts& counts);
/// Graphs and memory of a complete result; null where not known.
nlohmann::json graphs_json(const PolicyResult& result);
nlohmann::json memory_json(const PolicyResult& result);

}  // namespace dovetail
