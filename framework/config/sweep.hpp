// An experiment file as the runs that it stands for: one, or with `sweep` one for each combination
// of the values of the axes.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "framework/config/load.hpp"
#include "framework/config/read_sweep.hpp"

namespace dovetail {

/// Points are numbered from 0; the last axis varies fastest. A point is read as if its values stood
/// at their keys in the file, so that errors name the place of the value.
class Sweep {
 public:
  static constexpr std::size_t kMaxPoints = 10'000;

  /// `text`, `file` and `overrides` as for parse_experiment; `policies` are the arguments of
  /// --policy, which are the one value of an axis `policies` where the file sweeps. Reads the axes,
  /// not the points. Throws InputError for an axis that is malformed, a --set of a swept key,
  /// --policy beside such an axis, and more than kMaxPoints points.
  Sweep(const std::string& text,
        const std::string& file,
        const std::vector<std::string>& overrides = {},
        const std::vector<std::string>& policies = {});

  /// False: one point, the experiment itself.
  bool is_sweep() const { return !axes_.empty(); }

  const std::vector<LocatedAxis>& axes() const { return axes_; }

  std::size_t num_points() const { return num_points_; }

  /// The values of a point, as YAML in one line, one an axis.
  std::vector<std::string> values(std::size_t point) const;

  /// "point 3 of the sweep (workload.requests.count = 4, execution.exchange = ragged)".
  std::string describe(std::size_t point) const;

  /// The experiment of a point, with all policies of the file. Throws InputError as
  /// parse_experiment, and for names of policies that it does not have; in a sweep with describe()
  /// at the end.
  LoadedExperiment load(std::size_t point) const;

  /// The policies that a point runs, beside the baseline; empty = all.
  std::vector<std::string> policies(std::size_t point) const;

  /// The sweep as YAML: the file with --set and --policy applied. Equal texts are equal sweeps.
  std::string text() const;

 private:
  /// Which value of each axis a point takes.
  std::vector<std::size_t> choices(std::size_t point) const;

  YamlNode root_;  ///< without `sweep`
  std::vector<LocatedAxis> axes_;
  std::vector<std::string> policies_;
  std::size_t num_points_ = 1;
};

}  // namespace dovetail
