// What one policy folder says about time and traffic: the common ground of compare and summary.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "framework/compare/metrics.hpp"
#include "framework/record/policy_folder.hpp"

namespace dovetail {

/// What the ranks agreed on, over all timed steps that were finished.
struct DecisionCounts {
  std::int64_t num_steps = 0;
  std::int64_t num_ubatched = 0;
  std::int64_t num_vetoed = 0;
  std::map<std::string, std::int64_t> vetoes_by_reason;

  /// "below_threshold x 3, rank_veto x 1"; empty without vetoes.
  std::string describe_vetoes() const;
};

/// Rows and bytes that the exchange moved, over all ranks.
struct TrafficTotals {
  std::int64_t dispatch_wire_bytes = 0;
  std::int64_t combine_wire_bytes = 0;
  std::int64_t dispatch_logical_bytes = 0;
  std::int64_t combine_logical_bytes = 0;
  std::vector<std::vector<std::int64_t>>
      tokens_per_expert;  ///< [layers][experts], replicas added; a dense layer has zeros
  std::vector<std::vector<std::int64_t>>
      tokens_per_rank;  ///< [layers][ranks]: for the rank's own experts
};

struct PolicyResult {
  std::filesystem::path folder;
  std::string name;
  std::string experiment;
  std::string started_at;
  std::string weights_digest;
  std::string inputs_digest;
  std::string link = kNoLink;  ///< "none", or how the link was emulated
  std::int64_t world_size = 0;
  std::int64_t expert_parallel = 0;
  std::int64_t num_ubatches = 1;  ///< most of any schedule
  std::string status;             ///< complete, incomplete, failed, running, invalid, unreadable
  std::string problem;            ///< why it is not complete; empty = complete

  // Filled only for complete results: times of others are never shown.
  Statistics step_ns;
  DecisionCounts decisions;
  std::vector<StepProfile> profiles;  ///< those that ran all three passes on all ranks
  TrafficTotals traffic;

  bool is_complete() const { return problem.empty(); }
};

/// Reads a policy folder. A folder that is no complete result is returned as such, with its
/// problem. Throws InputError only where `folder` does not exist or has no rank files.
PolicyResult read_policy_result(const std::filesystem::path& folder);

}  // namespace dovetail
