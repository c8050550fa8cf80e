#include "framework/run/sweep_records.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>

#include "framework/base/error.hpp"
#include "framework/base/text.hpp"
#include "framework/base/text_file.hpp"
#include "framework/run/set_up.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

/// What experiment.yaml of a sweep's folder says.
std::string sweep_text(const Sweep& sweep) {
  return "# Sweep, with --set and --policy applied; each point's own experiment.yaml states every "
         "key.\n" +
         sweep.text();
}

/// Throws InputError unless the folder is one of this sweep on as many ranks.
void check_folder(const fs::path& folder, const Sweep& sweep, int num_ranks) {
  const auto file = (folder / kExperimentFileName).string();
  if (read_text_file(file, kRecordedExperimentText) != sweep_text(sweep)) {
    throw InputError(folder.string() + ": holds the results of another experiment (its " +
                     kExperimentFileName +
                     " differs); name a folder that is absent or empty, or that of this sweep");
  }
  if (!fs::exists(folder / kSweepFileName)) {
    return;
  }
  const auto world_size = read_sweep_result(folder).world_size;
  if (world_size != num_ranks) {
    throw InputError(folder.string() + ": this sweep was begun on " + counted(world_size, "rank") +
                     ", these are " + std::to_string(num_ranks) +
                     "; go on with as many, or name another folder");
  }
}

RunFolder open_folder(const ExperimentPoints& points, const std::string& out, int num_ranks) {
  const Sweep& sweep = points.sweep;
  if (!out.empty() && fs::exists(fs::path(out) / kExperimentFileName)) {
    RunFolder folder = {out, FolderLock(out)};
    check_folder(out, sweep, num_ranks);
    return folder;
  }
  auto folder =
      open_run_folder(out, points.points.front().experiment, std::chrono::system_clock::now());
  write_file_atomically(folder.path / kExperimentFileName, sweep_text(sweep));
  return folder;
}

}  // namespace

SweepRecords::SweepRecords(const ExperimentPoints& points, const std::string& out, int num_ranks)
    : points_(points),
      num_ranks_(num_ranks),
      folder_(open_folder(points, out, num_ranks)),
      points_that_measure_(points_that_measure(points.points)) {
  result_.experiment = points.points.front().experiment;
  result_.world_size = num_ranks;
  for (const LocatedAxis& axis : points.sweep.axes()) {
    result_.keys.push_back(axis.key);
  }
  result_.points.resize(points.points.size());
  step_times_.resize(points.points.size());
  for (std::size_t point = 0; point < points.points.size(); ++point) {
    auto& own = result_.points[point];
    for (int retry = 0; fs::exists(folder_.path / folder_name(point, retry)); ++retry) {
      own.folder = folder_name(point, retry);
    }
    take_over(point);
  }
  write();
}

std::string SweepRecords::folder_name(std::size_t point, int retry) const {
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "point-%04zu", point);
  return name.data() + (retry == 0 ? std::string() : ".retry" + std::to_string(retry));
}

void SweepRecords::take_over(std::size_t point) {
  auto& own = result_.points[point];
  const auto name = own.folder;
  own = {};
  if (!name.empty()) {
    const auto& experiment = points_.points[point];
    own = read_sweep_point(folder_.path / name, experiment);
    step_times_[point] = step_times_of(own, experiment, num_ranks_);
  }
  own.folder = name;
  own.values = points_.sweep.values(point);
}

std::optional<fs::path> SweepRecords::begin(std::size_t point) {
  auto& own = result_.points.at(point);
  if (own.status == SweepPointStatus::complete) {
    return std::nullopt;
  }
  int retry = 0;
  // An empty folder is what a run leaves that was killed at once; nothing is lost by using it.
  while (fs::exists(folder_.path / folder_name(point, retry)) &&
         !is_unused(folder_.path / folder_name(point, retry))) {
    ++retry;
  }
  own = {.values = points_.sweep.values(point),
         .folder = folder_name(point, retry),
         .status = SweepPointStatus::running,
         .problem = "",
         .policies = {}};
  write();
  return folder_.path / own.folder;
}

std::vector<EarlierPolicy> SweepRecords::earlier_policies(std::size_t point) const {
  std::vector<EarlierPolicy> earlier;
  const auto& own = points_.points.at(point);
  for (const PolicyConfig& policy : own.policies) {
    const auto same = points_that_measure_.find(what_is_measured(own, policy));
    if (same == points_that_measure_.end()) {
      continue;
    }
    const auto done =
        std::find_if(same->second.begin(), same->second.end(), [&](std::size_t other) {
          return other != point && result_.points[other].status == SweepPointStatus::complete;
        });
    if (done == same->second.end()) {
      continue;
    }
    const auto& result = result_.points[*done];
    const auto row = std::find_if(result.policies.begin(),
                                  result.policies.end(),
                                  [&](const SweepPolicy& one) { return one.name == policy.name; });
    earlier.push_back({policy.name,
                       row->measured_in_point.value_or(*done),
                       (folder_.path / result.folder / policy.name).string()});
  }
  return earlier;
}

void SweepRecords::end(std::size_t point, const std::string& failure) {
  take_over(point);
  if (!failure.empty()) {
    result_.points[point].status = SweepPointStatus::incomplete;
    result_.points[point].problem = failure;
  }
  write();
}

void SweepRecords::write() {
  result_.step_times = step_time_json(step_times_);
  write_json(folder_.path / kSweepFileName, to_json(result_));
  write_file_atomically(folder_.path / kSweepTableName, to_csv(result_));
}

}  // namespace dovetail
