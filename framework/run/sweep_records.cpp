#include "framework/run/sweep_records.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>

#include "framework/base/error.hpp"
#include "framework/base/file_system.hpp"
#include "framework/base/text.hpp"
#include "framework/base/text_file.hpp"
#include "framework/run/set_up.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

/// Others hold the lock while they read all points and write the tables.
constexpr std::chrono::seconds kPatienceForTables{30};

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
  if (!path_exists(folder / kSweepFileName)) {
    return;
  }
  const auto world_size = read_sweep_result(folder).world_size;
  if (world_size != num_ranks) {
    throw InputError(folder.string() + ": this sweep was begun on " + counted(world_size, "rank") +
                     ", these are " + std::to_string(num_ranks) +
                     "; go on with as many, or name another folder");
  }
}

/// A folder into which several processes write, made by the first of them; locked.
FolderLock join_folder(const ExperimentPoints& points, const fs::path& out, int num_ranks) {
  make_folders(out);
  const bool is_begun = path_exists(out / kExperimentFileName);
  if (!is_begun && !is_unused(out)) {
    throw InputError(out.string() +
                     ": holds something else than a sweep; name a folder that is "
                     "absent or empty, or that of this sweep");
  }
  FolderLock lock(out, lock_file, kPatienceForTables);
  if (path_exists(out / kExperimentFileName)) {
    check_folder(out, points.sweep, num_ranks);
  } else {
    write_file_atomically(out / kExperimentFileName, sweep_text(points.sweep));
  }
  return lock;
}

RunFolder open_folder(const ExperimentPoints& points, const std::string& out, int num_ranks) {
  const Sweep& sweep = points.sweep;
  if (!out.empty() && path_exists(fs::path(out) / kExperimentFileName)) {
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

void require_begun_sweep(const fs::path& folder) {
  if (!path_exists(folder / kSweepFileName)) {
    throw InputError(folder.string() + ": no sweep has begun there (it has no " +
                     std::string(kSweepFileName) + "); name a new folder with --out");
  }
}

SweepRecords::SweepRecords(const ExperimentPoints& points,
                           const std::string& out,
                           int num_ranks,
                           SweepUse use)
    : points_(points),
      num_ranks_(num_ranks),
      use_(use),
      points_that_measure_(points_that_measure(points.points)) {
  std::optional<FolderLock> tables;
  if (use == SweepUse::all_points) {
    auto opened = open_folder(points, out, num_ranks);
    folder_ = opened.path;
    lock_ = std::move(opened.lock);
  } else {
    folder_ = out;
    tables = join_folder(points, out, num_ranks);
  }
  result_.experiment = points.points.front().experiment;
  result_.world_size = num_ranks;
  for (const LocatedAxis& axis : points.sweep.axes()) {
    result_.keys.push_back(axis.key);
  }
  result_.points.resize(points.points.size());
  step_times_.resize(points.points.size());
  read_points();
  write();
}

std::optional<FolderLock> SweepRecords::lock_tables() const {
  if (use_ == SweepUse::all_points) {
    return std::nullopt;
  }
  return FolderLock(folder_, lock_file, kPatienceForTables);
}

void SweepRecords::read_points() {
  for (std::size_t point = 0; point < points_.points.size(); ++point) {
    auto& own = result_.points[point];
    for (int retry = 0; path_exists(folder_ / folder_name(point, retry)); ++retry) {
      own.folder = folder_name(point, retry);
    }
    take_over(point);
  }
  if (use_ == SweepUse::one_point && path_exists(folder_ / kSweepFileName)) {
    keep_what_others_said();
  }
}

/// A point that has no folder yet may be starting, or have failed before it made one.
void SweepRecords::keep_what_others_said() {
  const auto said = read_sweep_result(folder_);
  for (std::size_t point = 0; point < std::min(said.points.size(), result_.points.size());
       ++point) {
    auto& own = result_.points[point];
    if (own.status == SweepPointStatus::pending) {
      own.status = said.points[point].status;
      own.problem = said.points[point].problem;
    }
  }
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
    own = read_sweep_point(folder_ / name, experiment);
    step_times_[point] = step_times_of(own, experiment, num_ranks_);
  }
  if (own.status == SweepPointStatus::incomplete && is_locked(folder_ / name)) {
    own.status = SweepPointStatus::running;
    own.problem.clear();
  }
  own.folder = name;
  own.values = points_.sweep.values(point);
}

std::optional<fs::path> SweepRecords::begin(std::size_t point) {
  const auto tables = lock_tables();
  if (tables) {
    read_points();
  }
  auto& own = result_.points.at(point);
  if (own.status == SweepPointStatus::complete) {
    return std::nullopt;
  }
  if (!own.folder.empty() && is_locked(folder_ / own.folder)) {
    throw InputError((folder_ / own.folder).string() +
                     ": another process is running this point of the sweep; wait for its end");
  }
  int retry = 0;
  // An empty folder is what a run leaves that was killed at once; nothing is lost by using it.
  while (path_exists(folder_ / folder_name(point, retry)) &&
         !is_unused(folder_ / folder_name(point, retry))) {
    ++retry;
  }
  own = {.values = points_.sweep.values(point),
         .folder = folder_name(point, retry),
         .status = SweepPointStatus::running,
         .problem = "",
         .policies = {}};
  write();
  return folder_ / own.folder;
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
                       (folder_ / result.folder / policy.name).string()});
  }
  return earlier;
}

void SweepRecords::end(std::size_t point, const std::string& failure) {
  const auto tables = lock_tables();
  if (tables) {
    read_points();
  }
  take_over(point);
  if (!failure.empty()) {
    result_.points[point].status = SweepPointStatus::incomplete;
    result_.points[point].problem = failure;
  }
  write();
}

void SweepRecords::write() {
  result_.step_times = step_time_json(step_times_);
  write_json(folder_ / kSweepFileName, to_json(result_));
  write_file_atomically(folder_ / kSweepTableName, to_csv(result_));
}

}  // namespace dovetail
