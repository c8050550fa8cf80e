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

/// Of rank 0. Nothing that a run has written is ever
/// overwritten, moved or removed: a point that has to run again gets a folder of its own,
/// point-0003.retry1, and the tables take each point's last folder.
class SweepRecords {
 public:
  /// Makes the folder `out` (empty: results/<experiment>-<UTC time>) and writes experiment.yaml, or
  /// takes up one that the same sweep has begun. `points` outlive the object. Throws InputError for
  /// a folder that holds anything else, another sweep, or one of another number of ranks, and where
  /// another run writes into it.
  SweepRecords(const ExperimentPoints& points, const std::string& out, int num_ranks);

  const std::filesystem::path& folder() const { return folder_.path; }

  const SweepResult& result() const { return result_; }

  /// The folder that a point has to run in, marked as running; nothing where the point is done.
  std::optional<std::filesystem::path> begin(std::size_t point);

  /// The policies of a point that a complete point has measured with all that can influence them.
  std::vector<EarlierPolicy> earlier_policies(std::size_t point) const;

  /// Takes over what the run of a point has left; `failure` says why it ended early, empty = it did
  /// not.
  void end(std::size_t point, const std::string& failure);

 private:
  std::string folder_name(std::size_t point, int retry) const;
  void take_over(std::size_t point);
  void write();

  const ExperimentPoints& points_;
  int num_ranks_;
  RunFolder folder_;  ///< as long as the object lives, no other run writes there
  SweepResult result_;
  std::vector<std::vector<TimedPolicy>> step_times_;                     ///< by point
  std::map<std::string, std::vector<std::size_t>> points_that_measure_;  ///< by what_is_measured
};

}  // namespace dovetail
