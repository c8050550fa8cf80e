// What one policy folder says about time and traffic: the common ground of compare and summary.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "framework/compare/before_step.hpp"
#include "framework/compare/bootstrap.hpp"
#include "framework/compare/drift.hpp"
#include "framework/compare/metrics.hpp"
#include "framework/compare/recorded_scalars.hpp"
#include "framework/compare/round_intervals.hpp"
#include "framework/compare/timed_steps.hpp"
#include "framework/compare/traffic_totals.hpp"
#include "framework/config/resolved_execution.hpp"
#include "framework/record/policy_folder.hpp"

namespace dovetail {

/// PolicyResult::status where files are missing or damaged.
inline constexpr const char* kUnreadableStatus = "unreadable";
inline constexpr const char* kIncompleteStatus = "incomplete";

struct PolicyResult {
  std::filesystem::path folder;
  std::string name;
  std::string experiment;
  std::string started_at;
  std::string weights_digest;
  std::string inputs_digest;
  std::string device;          ///< of the ranks, without their numbers ("cuda NVIDIA H200"); where
                               ///< they differ joined by ", "
  std::string link = kNoLink;  ///< "none", or how the link was emulated
  std::int64_t world_size = 0;
  std::int64_t expert_parallel = 0;
  std::optional<ResolvedExecution>
      execution;                  ///< of rank 0; nothing in files of an earlier version
  std::int64_t num_ubatches = 1;  ///< most of any schedule
  std::string status;             ///< complete, incomplete, failed, running, invalid, stopped,
                                  ///< unreadable, not_run; with its run's verdict also mismatch,
                                  ///< not_finite
  std::string problem;            ///< why it is not complete; empty = complete
  std::string remark;             ///< what its run has found besides, for a reader
  std::string hole;  ///< which timed steps of a complete result have no time; empty = none

  // Filled only for complete results: times of others are never shown.
  Statistics step_ns;                 ///< of the mean step of each timed iteration
  std::vector<double> step_times_ns;  ///< what step_ns is of, in the order of time
  std::vector<TimedStep> timed_steps;
  std::int64_t most_iterations = 0;  ///< that the run would have taken at most
  /// Of each round the median of its iterations' mean steps, slowest ranks; NaN where there is
  /// none.
  std::vector<double> round_ns;
  std::optional<Drift> run_drift;    ///< nothing where there are too few rounds and iterations
  std::optional<Drift> round_drift;  ///< within rounds; nothing likewise, and in a run of one
  std::int64_t rounds_began_ns = 0;  ///< equal where policies had the same rounds; 0 = not known
  DecisionCounts decisions;
  RecordedScalars scalars;
  /// Steps of the whole policy that ran eagerly, as rank 0 counted them; empty = not known.
  std::map<std::string, std::int64_t> eager_by_reason;
  /// Bytes of weights, cache and exchange buffers of the rank that owns most; -1 = not known.
  std::int64_t owned_bytes = -1;
  /// Median over the timed steps of all ranks of the host's time to enqueue a step over the step's;
  /// nothing where it is not known (on the CPU).
  std::optional<double> host_share;
  std::optional<BeforeTimes> before;  ///< no part of step_ns; nothing where it is not known
  std::vector<StepProfile> profiles;  ///< those that ran the passes of all versions on all ranks
  TrafficTotals traffic;

  bool is_complete() const { return problem.empty(); }

  /// Whether it ended before its last iteration because it was measured precisely enough.
  bool has_ended_early() const {
    return is_complete() && status == "complete" && step_ns.count < most_iterations && hole.empty();
  }

  /// Whether all was there that a complete result has, or the run itself says why it is not.
  bool is_read() const {
    return hole.empty() && status != kUnreadableStatus && status != kIncompleteStatus;
  }
};

/// Of a result's median step: what its rounds say, else what its steps do.
std::optional<ConfidenceInterval> step_interval(const PolicyResult& result);

/// How many times faster `own` is than `baseline`, and how sure that is: round by round where both
/// had the same rounds, else over the rounds of each, else, with too few of them, by the medians of
/// all steps (no interval with too few steps). Both have times.
struct SpeedUp {
  double value = 0;
  std::optional<ConfidenceInterval> interval;
  SpeedUpBasis basis = SpeedUpBasis::steps;

  /// Whether there is a difference; nothing where that cannot be said.
  std::optional<bool> counts() const {
    return interval && basis == SpeedUpBasis::rounds ? std::optional(!interval->contains(1))
                                                     : std::nullopt;
  }
};

SpeedUp speed_up_of(const PolicyResult& baseline, const PolicyResult& own);

/// The device of a rank without its number: "cuda:3 NVIDIA H200" -> "cuda NVIDIA H200".
std::string device_kind(const std::string& device);

/// Reads a policy folder. A folder that is no complete result is returned as such, with its
/// problem. Throws InputError only where `folder` does not exist or has no rank files.
PolicyResult read_policy_result(const std::filesystem::path& folder);

}  // namespace dovetail
