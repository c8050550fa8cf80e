// What a rank's environment says of its threads.
#include "framework/base/task_threads.hpp"

#include <map>

#include <gtest/gtest.h>

namespace dovetail {
namespace {

/// An environment of these variables.
VariableReader variables(const std::map<std::string, const char*>& set) {
  return [set](const char* name) {
    const auto found = set.find(name);
    return found == set.end() ? nullptr : found->second;
  };
}

TEST(TaskThreads, WhatTheUserSetComesFirst) {
  const CpuShare share = {.cpus = 8, .from = "quota"};
  const auto with = [&](const char* text) {
    return threads_of_task(variables({{"OMP_NUM_THREADS", text}, {"SLURM_CPUS_PER_TASK", "2"}}),
                           share);
  };
  EXPECT_EQ(with("3").count, 3);
  EXPECT_EQ(with("3").from, "OMP_NUM_THREADS");
  EXPECT_EQ(with("16,4").count, 16) << "more than there are: as the user wants";
  EXPECT_EQ(with("").count, 2) << "empty: not set";
  EXPECT_EQ(threads_of_task(variables({}), share).count, 8);
  EXPECT_EQ(threads_of_task(variables({}), share).from, "quota");
}

TEST(TaskThreads, ATaskOfSlurmHasNoMoreThanItWasAskedFor) {
  const CpuShare share = {.cpus = 8, .from = "affinity"};
  const auto with = [&](const char* text) {
    return threads_of_task(variables({{"SLURM_CPUS_PER_TASK", text}}), share);
  };
  EXPECT_EQ(with("2").count, 2);
  EXPECT_EQ(with("2").from, "SLURM_CPUS_PER_TASK");
  EXPECT_EQ(with("16").count, 8) << "ranks that share what they were given";
  EXPECT_EQ(with("16").from, "affinity");
  EXPECT_EQ(with("many").count, 8) << "the user has not written it";
}

TEST(TaskThreads, WhatMklIsAskedForIsNamedAsIgnored) {
  const ComputeThreads threads = {.count = 2, .from = "affinity"};
  EXPECT_EQ(ignored_threads(variables({{"MKL_NUM_THREADS", "8"}}), threads),
            "MKL_NUM_THREADS=8 is ignored: a rank computes with 2 threads (affinity), those of MKL "
            "among them; OMP_NUM_THREADS sets both");
  EXPECT_EQ(ignored_threads(variables({{"MKL_NUM_THREADS", "2"}}), threads), "");
  EXPECT_EQ(ignored_threads(variables({}), threads), "");
}

}  // namespace
}  // namespace dovetail
