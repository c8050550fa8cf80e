// What launchers' variables say against what MPI says.
#include "framework/mpi/launcher.hpp"

#include <chrono>
#include <map>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/mpi/start_limit.hpp"
#include "framework/mpi/start_order.hpp"

namespace dovetail {
namespace {

std::string problem(int world_size, const std::map<std::string, std::string>& variables) {
  const auto started = find_started_processes([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
  return find_lost_ranks(started, world_size).value_or("");
}

TEST(Launcher, NothingSaysAnything) {
  EXPECT_EQ(problem(1, {}), "");
  EXPECT_EQ(problem(4, {}), "");
}

TEST(Launcher, WorldsOfOneRankAreNoticed) {
  EXPECT_NE(problem(1, {{"SLURM_NTASKS", "2"}, {"SLURM_PROCID", "1"}})
                .find("Slurm has started 2 processes (SLURM_NTASKS), but MPI knows of 1 rank:"),
            std::string::npos);
  EXPECT_NE(problem(1, {{"OMPI_COMM_WORLD_SIZE", "4"}}), "");
  EXPECT_NE(problem(2, {{"PMI_SIZE", "4"}}).find("of 2 ranks:"), std::string::npos);
  EXPECT_NE(
      problem(1, {{"SLURM_STEP_NUM_TASKS", "8"}, {"SLURM_NTASKS", "1"}, {"SLURM_PROCID", "0"}}),
      "");
}

TEST(Launcher, TheInnermostLauncherDecides) {
  // mpirun -np 2 inside of a job of eight tasks.
  EXPECT_EQ(problem(2,
                    {{"OMPI_COMM_WORLD_SIZE", "2"},
                     {"SLURM_NTASKS", "8"},
                     {"SLURM_STEP_NUM_TASKS", "1"},
                     {"SLURM_PROCID", "0"}}),
            "");
  // A step of two tasks in a job of eight.
  EXPECT_EQ(
      problem(2, {{"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_NTASKS", "8"}, {"SLURM_PROCID", "1"}}),
      "");
  // The shell of an allocation, which Slurm has not started.
  EXPECT_EQ(problem(1, {{"SLURM_NTASKS", "8"}}), "");
}

std::string missing_pmi(const std::map<std::string, std::string>& variables) {
  return find_missing_pmi([&](const char* name) -> const char* {
           const auto found = variables.find(name);
           return found == variables.end() ? nullptr : found->second.c_str();
         })
      .value_or("");
}

TEST(Launcher, SrunWithoutAnInterfaceForMpiIsNoticedBeforeMpiStarts) {
  EXPECT_NE(missing_pmi({{"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_PROCID", "1"}})
                .find("Slurm has started 2 processes (SLURM_STEP_NUM_TASKS), and MPI has no way"),
            std::string::npos);
  for (const char* connected : {"PMIX_RANK", "PMI_RANK", "PMI_FD", "OMPI_COMM_WORLD_RANK"}) {
    EXPECT_EQ(missing_pmi({{"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_PROCID", "1"}, {connected, "1"}}),
              "");
  }
  EXPECT_EQ(missing_pmi({{"SLURM_NTASKS", "2"}, {"SLURM_PROCID", "0"}}), "")
      << "the script of a job is no step";
  EXPECT_EQ(missing_pmi({}), "");
}

TEST(Launcher, MpirunEndsAllWithTheFirstThatFails) {
  const auto ends_together = [](const std::map<std::string, std::string>& variables) {
    return find_started_processes([&](const char* name) -> const char* {
             const auto found = variables.find(name);
             return found == variables.end() ? nullptr : found->second.c_str();
           })
        ->ends_together;
  };
  EXPECT_TRUE(ends_together({{"OMPI_COMM_WORLD_SIZE", "2"}, {"PMI_SIZE", "2"}}));
  EXPECT_FALSE(ends_together({{"SLURM_NTASKS", "2"}, {"SLURM_PROCID", "0"}}));
  EXPECT_FALSE(ends_together({{"PMI_SIZE", "2"}}));
}

TEST(StartDelay, OnlyWhereManyRanksShareACore) {
  EXPECT_EQ(start_delay_ms({1, 1, 64}, 2), 20'000);
  EXPECT_EQ(start_delay_ms({64, 0, 64}, 2), 1000) << "on another host";
  EXPECT_EQ(start_delay_ms({0, 0, 64}, 2), 0) << "the first rank goes ahead";
  EXPECT_EQ(start_delay_ms({1, 1, 8}, 2), 0);
  EXPECT_EQ(start_delay_ms({1, 1, 9}, 2), 20'000);
  EXPECT_EQ(start_delay_ms({}, 2), 0) << "no launcher";
}

TEST(StartDelay, EndsByAFileOfTheJob) {
  EXPECT_STREQ(GoAheadFile("/tmp/job", "7").path(), "/tmp/job/dovetail-go-ahead-7");
  EXPECT_FALSE(GoAheadFile(nullptr, "7").is_known());
  EXPECT_FALSE(GoAheadFile("/tmp/job", nullptr).is_known());
  const std::string longest(1024 - 1 - std::string("/dovetail-go-ahead-7").size(), 'x');
  EXPECT_TRUE(GoAheadFile(longest.c_str(), "7").is_known());
  EXPECT_FALSE(GoAheadFile((longest + "x").c_str(), "7").is_known());
}

TEST(Launcher, TheNumberOfAProcess) {
  const auto number = [](const std::map<std::string, std::string>& variables) {
    return process_number([&](const char* name) -> const char* {
      const auto found = variables.find(name);
      return found == variables.end() ? nullptr : found->second.c_str();
    });
  };
  EXPECT_EQ(number({}), 0);
  EXPECT_EQ(number({{"SLURM_PROCID", "7"}}), 7);
  EXPECT_EQ(number({{"SLURM_PROCID", "0"}, {"OMPI_COMM_WORLD_RANK", "3"}}), 3);
}

TEST(StartLimit, ReadsWholeSeconds) {
  EXPECT_EQ(read_start_limit(nullptr), kDefaultStartLimit);
  EXPECT_EQ(read_start_limit("7"), std::chrono::seconds(7));
  for (const char* bad : {"", "0", "-1", "1.5", "7s", "86401", "99999999999"}) {
    EXPECT_THROW(read_start_limit(bad), InputError) << bad;
  }
}

TEST(StartLimit, AStartInTimeGoesOn) {
  StartLimit limit(std::chrono::seconds(1), 0);
  limit.done();
  std::this_thread::sleep_for(std::chrono::milliseconds(1200));
}

TEST(StartLimitDeathTest, AStartThatTakesTooLongEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        const StartLimit limit(std::chrono::seconds(1), 1);
        std::this_thread::sleep_for(std::chrono::seconds(30));
      },
      testing::ExitedWithCode(3),
      "the start of the ranks was not done in 1 s");
}

}  // namespace
}  // namespace dovetail
