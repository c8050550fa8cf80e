// The folder of a sweep: what a resume takes up, and that nothing recorded is ever lost.
#include "framework/run/sweep_records.hpp"

#include <fstream>

#include <gtest/gtest.h>

#include "framework/base/scratch_folder.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/run/capabilities.hpp"
#include "tests/support/input_error.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

ExperimentPoints points_of(const std::string& counts) {
  ExperimentPoints all{Sweep("experiment: points\n"
                             "model: {architecture: fake, config: c.json}\n"
                             "workload: {requests: {count: 1, length: 1}}\n"
                             "policies: [{name: sequential}]\n"
                             "sweep: {workload.requests.count: " +
                                 counts + "}\n",
                             "points.yaml",
                             {},
                             {}),
                       {}};
  for (std::size_t point = 0; point < all.sweep.num_points(); ++point) {
    all.points.push_back(point_experiment(all.sweep, point, 1, build_capabilities({"fake"})));
  }
  return all;
}

std::string refusal_of(const ExperimentPoints& points, const fs::path& folder, int num_ranks) {
  return testing::input_error_of(
      [&] { const SweepRecords records(points, folder.string(), num_ranks); });
}

std::vector<SweepPointStatus> states_of(const SweepRecords& records) {
  std::vector<SweepPointStatus> states;
  for (const auto& point : records.result().points) {
    states.push_back(point.status);
  }
  return states;
}

/// What a run leaves that was killed in its first policy.
void leave_unfinished_run(const fs::path& folder) {
  fs::create_directories(folder);
  std::ofstream(folder / "note") << "of the first try";
}

TEST(SweepRecords, TakeUpWhatWasBegun) {
  using enum SweepPointStatus;
  const ScratchFolder scratch;
  const auto folder = scratch.path() / "sweep";
  const auto points = points_of("[1, 2, 3]");
  {
    SweepRecords records(points, folder.string(), 2);
    EXPECT_EQ(states_of(records), (std::vector{pending, pending, pending}));
    EXPECT_EQ(records.result().keys, std::vector<std::string>{"workload.requests.count"});
    EXPECT_EQ(records.begin(0), folder / "point-0000");
    EXPECT_EQ(states_of(records), (std::vector{running, pending, pending}));
    leave_unfinished_run(folder / "point-0000");
    records.end(0, "rank 1 failed");
    EXPECT_EQ(records.result().points[0].problem, "rank 1 failed");
    EXPECT_EQ(records.begin(1), folder / "point-0001");
  }
  EXPECT_EQ(read_sweep_result(folder).points.at(1).status, running)
      << "as a killed sweep leaves it";

  SweepRecords again(points, folder.string(), 2);
  EXPECT_EQ(again.result().num_complete(), 0U);
  EXPECT_EQ(again.result().points[0].status, incomplete);
  EXPECT_EQ(again.result().points[0].values, std::vector<std::string>{"1"});
  EXPECT_EQ(again.begin(0), folder / "point-0000.retry1") << "nothing is written over";
  EXPECT_EQ(again.begin(1), folder / "point-0001") << "nothing was there yet";
  EXPECT_TRUE(fs::exists(folder / "point-0000" / "note"));
  leave_unfinished_run(folder / "point-0000.retry1");
  again.end(0, "");
  EXPECT_EQ(again.result().points[0].folder, "point-0000.retry1");
  EXPECT_EQ(again.result().points[0].status, incomplete) << "the folder holds no run";
  EXPECT_EQ(again.begin(0), folder / "point-0000.retry2");
}

TEST(SweepRecords, RefuseTheFolderOfOthers) {
  const ScratchFolder scratch;
  const auto folder = scratch.path() / "sweep";
  const auto points = points_of("[1, 2]");
  { const SweepRecords records(points, folder.string(), 2); }
  EXPECT_EQ(refusal_of(points, folder, 4),
            folder.string() +
                ": this sweep was begun on 2 ranks, these are 4; go on with as many, or name "
                "another folder");
  const auto other = refusal_of(points_of("[1, 3]"), folder, 2);
  EXPECT_TRUE(other.starts_with(folder.string() + ": holds the results of another experiment"))
      << other;
  const auto full = scratch.path() / "full";
  leave_unfinished_run(full);
  const auto taken = refusal_of(points, full, 2);
  EXPECT_TRUE(taken.starts_with(full.string() + ": the result folder is not empty")) << taken;
  EXPECT_TRUE(fs::exists(full / "note"));
}

TEST(SweepRecords, OfProcessesWithAPointEachShareTheTables) {
  using enum SweepPointStatus;
  const ScratchFolder scratch;
  const auto folder = scratch.path() / "sweep";
  const auto points = points_of("[1, 2, 3]");
  const auto open = [&] { return SweepRecords(points, folder.string(), 2, SweepUse::one_point); };
  auto first = open();
  EXPECT_EQ(first.begin(0), folder / "point-0000");
  auto second = open();
  EXPECT_EQ(second.begin(1), folder / "point-0001") << "the folder is not locked in between";
  EXPECT_EQ(states_of(second), (std::vector{running, running, pending}));
  first.end(0, "failed before it had a folder");
  leave_unfinished_run(folder / "point-0001");
  {
    const FolderLock lock(folder / "point-0001");
    auto third = open();
    EXPECT_EQ(states_of(third), (std::vector{incomplete, running, pending}));
    EXPECT_EQ(third.result().points[0].problem, "failed before it had a folder");
    EXPECT_NE(testing::input_error_of([&] {
                third.begin(1);
              }).find("point-0001: another process is running this point"),
              std::string::npos);
    EXPECT_EQ(third.begin(2), folder / "point-0002");
  }
  second.end(1, "rank 0 failed");
  EXPECT_EQ(states_of(second), (std::vector{incomplete, incomplete, running}));
  EXPECT_EQ(open().begin(1), folder / "point-0001.retry1");
  EXPECT_EQ(open().begin(0), folder / "point-0000");
}

TEST(SweepRecords, OfOnePointRefuseAFolderOfSomethingElse) {
  const ScratchFolder scratch;
  const auto points = points_of("[1, 2]");
  leave_unfinished_run(scratch.path() / "other");
  EXPECT_NE(testing::input_error_of([&] {
              const SweepRecords records(
                  points, (scratch.path() / "other").string(), 1, SweepUse::one_point);
            }).find("holds something else than a sweep"),
            std::string::npos);
  const auto folder = (scratch.path() / "sweep").string();
  const SweepRecords begun(points, folder, 1, SweepUse::one_point);
  EXPECT_NE(testing::input_error_of([&] {
              const SweepRecords records(points_of("[1, 3]"), folder, 1, SweepUse::one_point);
            }).find("holds the results of another experiment"),
            std::string::npos);
}

}  // namespace
}  // namespace dovetail
