// What the points of a sweep gave: one table over all of them. Written as sweep.json and sweep.csv
// after each point.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "framework/base/types.hpp"
#include "framework/compare/bootstrap.hpp"
#include "framework/compare/metrics.hpp"
#include "framework/compare/round_intervals.hpp"
#include "framework/config/experiment.hpp"
#include "framework/config/resolved_execution.hpp"

namespace dovetail {

inline constexpr const char* kSweepFileName = "sweep.json";
inline constexpr const char* kSweepTableName = "sweep.csv";

/// `running` is also what a killed sweep leaves; `incomplete`: ended early (a signal, a failure),
/// or made from another experiment. Only `complete` is done: finished, and verified where the
/// experiment asks for it.
enum class SweepPointStatus { pending, running, complete, mismatch, incomplete };

template <>
struct EnumNames<SweepPointStatus> {
  static constexpr std::array<std::string_view, 5> kTable = {
      "pending", "running", "complete", "mismatch", "incomplete"};
};

/// One policy at one point.
struct SweepPolicy {
  std::string name;
  std::string schedule;         ///< name of the schedule that ran
  std::string schedule_digest;  ///< of that schedule, as the rank files record it
  std::int64_t ubatches = 1;
  std::string link;
  std::optional<ResolvedExecution> resolved;  ///< nothing in files of an earlier version
  std::int64_t max_tokens = 0;                ///< tokens of a step on the rank that has most
  std::int64_t total_tokens = 0;              ///< over all ranks
  double context_tokens = 0;                  ///< mean over all requests and steps
  bool one_token_each = false;                ///< every request computed one token a step
  std::int64_t vetoed_steps = 0;              ///< timed steps that ran the plain schedule instead
  std::optional<Statistics> step_ns;          ///< nothing where the times are not valid
  std::optional<ConfidenceInterval> step_interval;  ///< of the median; not in sweep.json
  std::vector<double> round_ns;                     ///< median of each round; NaN where not known
  std::int64_t rounds_began_ns = 0;                 ///< equal where policies had the same rounds
  std::optional<double> speed_up;                   ///< over the baseline, else the first policy
  /// Of the speed-up; nothing with too few rounds, and of the baseline itself.
  std::optional<ConfidenceInterval> speed_up_interval;
  std::optional<SpeedUpBasis> speed_up_basis;  ///< nothing of the baseline itself
  std::optional<bool> counts;                  ///< whether there is a difference: SpeedUp::counts
  std::optional<double> hidden_share;
  std::optional<double> split_tax;  ///< factor
  std::optional<double> hand_off_p50_ns;
  std::optional<std::size_t> measured_in_point;  ///< nothing = in this one
  std::string verdict;  ///< baseline, verified, mismatch, not_comparable, not_finite, not_verified
  std::vector<std::string> flags;  ///< names of flags.hpp, in their order
};

struct SweepPointResult {
  std::vector<std::string> values;  ///< one a key, as YAML
  std::string folder;               ///< name within the sweep's folder; empty = none yet
  SweepPointStatus status = SweepPointStatus::pending;
  std::string problem;  ///< why it is incomplete
  std::vector<SweepPolicy> policies;
  std::vector<std::string> notes;  ///< of its policies, a sentence each
};

struct SweepResult {
  std::string experiment;
  std::int64_t world_size = 0;    ///< ranks of every point
  std::vector<std::string> keys;  ///< of the axes
  std::vector<SweepPointResult> points;
  nlohmann::json step_times;  ///< table for the policy auto; null = none
  std::string baseline;  ///< that a reader has named (sweep_baseline.hpp); empty: each point's own

  /// Number of points that are done.
  std::size_t num_complete() const;

  /// "6 of 12 points are complete".
  std::string describe_progress() const;
};

/// What the run folder of a point holds against the experiment that it has to be of (its dump is
/// the folder's experiment.yaml). Never throws for what it finds there: the status says it. Leaves
/// `values` and `folder` empty.
SweepPointResult read_sweep_point(const std::filesystem::path& folder,
                                  const Experiment& experiment);

/// An interval of a policy in summary.json or sweep.json; nothing where it is null, or not there,
/// as in files of an earlier version.
std::optional<ConfidenceInterval> read_interval(const nlohmann::json& json, const char* key);

/// Of a policy in summary.json or sweep.json: "rounds_ns"; not there in files of an earlier
/// version.
void read_rounds(const nlohmann::json& json, SweepPolicy& policy);

/// Of a policy in summary.json or sweep.json: "measured_in_point"; nothing where it is null, or
/// not there, as in files of an earlier version.
std::optional<std::size_t> read_measured_in_point(const nlohmann::json& json);

/// "notes" or "flags" of summary.json, "points.policies.flags" or "points.notes" of sweep.json;
/// empty where it is not there, as in files of an earlier version.
std::vector<std::string> read_texts(const nlohmann::json& json, const char* key);

/// The table for people, below a line that names an emulated link; in blocks where it is wider than
/// `width` (0: none is). Below it which policies of which points have which flag.
std::string to_text(const SweepResult& result, std::size_t width = 0);

/// How to run the points of a sweep's folder that are not done: "6 of 12 points are complete; to go
/// on: mpirun -np 2 PROGRAM run FOLDER/experiment.yaml --out FOLDER", with a line end. Empty where
/// all are. `program` is how dovetail was started.
std::string how_to_go_on(const SweepResult& result,
                         const std::filesystem::path& folder,
                         const std::string& program);

/// A header and a row for each point and policy (RFC 4180); points without results have a row, too.
std::string to_csv(const SweepResult& result);

nlohmann::json to_json(const SweepResult& result);

/// Reads sweep.json of a sweep's folder. Throws InputError that names the file.
SweepResult read_sweep_result(const std::filesystem::path& sweep_folder);

}  // namespace dovetail
