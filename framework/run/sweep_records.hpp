// The files of a sweep: its folder, the folders of its points, sweep.json and sweep.csv.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "framework/compare/sweep_result.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/run/earlier_policy.hpp"
#include "framework/run/experiment_points.hpp"
#include "framework/run/sweep_step_times.hpp"

namespace dovetail {

/// Who writes into a sweep's folder.
enum class SweepUse {
  all_points,  ///< this process alone, as long as it has points to run
  one_point    ///< processes with a point each, at the same time; a lock keeps their tables apart
};

/// Throws InputError unless a sweep has begun in the folder.
void require_begun_sweep(const std::filesystem::path& folder);

/// Of rank 0. Nothing that a run has written is ever
/// overwritten, moved or removed: a point that has to run again gets a folder of its own,
/// point-0003.retry1, and the tables take each point's last folder.
class SweepRecords {
 public:
  /// Makes the folder `out` (empty: results/<experiment>-<UTC time>) and writes experiment.yaml, or
  /// takes up one that the same sweep has begun. `points` outlive the object. Throws InputError for
  /// a folder that holds anything else, another sweep, or one of another number of ranks, and where
  /// another run writes into it (of one_point: for half a minute).
  SweepRecords(const ExperimentPoints& points,
               const std::string& out,
               int num_ranks,
               SweepUse use = SweepUse::all_points);

  const std::filesystem::path& folder() const { return folder_; }

  const SweepResult& result() const { return result_; }

  /// The folder that a point has to run in, marked as running; nothing where the point is done.
  /// Throws InputError where another process is running it.
  std::optional<std::filesystem::path> begin(std::size_t point);

  /// The policies of a point that a complete point has measured with all that can influence them.
  std::vector<EarlierPolicy> earlier_policies(std::size_t point) const;

  /// Takes over what the run of a point has left; `failure` says why it ended early, empty = it did
  /// not.
  void end(std::size_t point, const std::string& failure);

 private:
  std::string folder_name(std::size_t point, int retry) const;
  std::optional<FolderLock> lock_tables() const;
  void read_points();
  void keep_what_others_said();
  void take_over(std::size_t point);
  void write();

  const ExperimentPoints& points_;
  int num_ranks_;
  SweepUse use_;
  std::filesystem::path folder_;
  std::optional<FolderLock> lock_;  ///< of all_points: no other run writes there
  SweepResult result_;
  std::vector<std::vector<TimedPolicy>> step_times_;                     ///< by point
  std::map<std::string, std::vector<std::size_t>> points_that_measure_;  ///< by what_is_measured
};

}  // namespace dovetail
