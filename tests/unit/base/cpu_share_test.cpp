// The CPUs and threads of a rank: what a launcher divided is not divided again.
#include "framework/base/cpu_share.hpp"

#include <filesystem>
#include <fstream>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/base/scratch_folder.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

CpuLimits allowed(int first, int end) {
  CpuLimits limits;
  for (int cpu = first; cpu < end; ++cpu) {
    limits.allow(cpu);
  }
  return limits;
}

CpuLimits with_quota(CpuLimits limits, std::uint64_t group, double cpus) {
  limits.quotas.at(static_cast<std::size_t>(limits.num_quotas++)) = {group, cpus};
  return limits;
}

TEST(CpuShare, RanksThatMayUseAllDivideThem) {
  const std::vector<CpuLimits> ranks(4, allowed(0, 18));
  EXPECT_EQ(cpu_share(ranks, 3).cpus, 4);
  EXPECT_EQ(cpu_share(ranks, 3).from, "affinity");
}

TEST(CpuShare, WhatALauncherDividedIsNotDividedAgain) {
  const std::vector<CpuLimits> ranks = {allowed(0, 8), allowed(8, 16), allowed(16, 20)};
  EXPECT_EQ(cpu_share(ranks, 0).cpus, 8);
  EXPECT_EQ(cpu_share(ranks, 2).cpus, 4);
}

TEST(CpuShare, MoreRanksThanCpusHaveOneEach) {
  const std::vector<CpuLimits> ranks(64, allowed(0, 2));
  EXPECT_EQ(cpu_share(ranks, 63).cpus, 1);
}

TEST(CpuShare, CpusOfHighNumbersCount) {
  const std::vector<CpuLimits> ranks = {allowed(4090, CpuLimits::kMaxCpus)};
  EXPECT_EQ(cpu_share(ranks, 0).cpus, 6);
}

TEST(CpuShare, NothingThatCouldBeReadIsOneCpu) {
  EXPECT_EQ(cpu_share(std::vector<CpuLimits>(2), 1).cpus, 1);
}

TEST(CpuShare, AQuotaIsDividedAmongItsRanks) {
  const auto in_container = with_quota(allowed(0, 64), 7, 6.5);
  const std::vector<CpuLimits> ranks = {in_container, in_container, allowed(0, 64)};
  EXPECT_EQ(cpu_share(ranks, 0).cpus, 3);
  EXPECT_EQ(cpu_share(ranks, 0).from, "quota");
  EXPECT_EQ(cpu_share(ranks, 2).cpus, 21) << "no quota: a third of the affinity";
}

TEST(CpuShare, AQuotaOfATaskIsNotDivided) {
  const std::vector<CpuLimits> ranks = {with_quota(allowed(0, 64), 7, 6),
                                        with_quota(allowed(0, 64), 8, 2)};
  EXPECT_EQ(cpu_share(ranks, 0).cpus, 6);
  EXPECT_EQ(cpu_share(ranks, 1).cpus, 2);
}

TEST(CpuShare, TheTightestOfSeveralQuotasCounts) {
  const auto task = [](std::uint64_t own) {
    return with_quota(with_quota(allowed(0, 64), own, 12), 99, 20);
  };
  const std::vector<CpuLimits> ranks = {task(1), task(2), task(3), task(4)};
  EXPECT_EQ(cpu_share(ranks, 0).cpus, 5) << "the job's 20 for four tasks";
  EXPECT_EQ(cpu_share(std::span(ranks).first(1), 0).cpus, 12) << "the task's own";
}

TEST(CpuShare, TheAffinityCountsWhereTheQuotaIsWider) {
  const std::vector<CpuLimits> ranks = {with_quota(allowed(0, 3), 7, 16)};
  EXPECT_EQ(cpu_share(ranks, 0).cpus, 3);
  EXPECT_EQ(cpu_share(ranks, 0).from, "affinity");
}

/// Against whole numbers: of up to 8 ranks on a CPU each one has 840 / ranks parts of 840.
TEST(CpuShare, IsThatOfExactArithmetic) {
  const auto seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int trial = 0; trial < 300; ++trial) {
    const int num_cpus = 1 + static_cast<int>(random() % 40);
    std::vector<CpuLimits> ranks(1 + random() % 8);
    for (auto& rank : ranks) {
      for (int cpu = 0; cpu < num_cpus; ++cpu) {
        if (random() % 3 != 0) {
          rank.allow(cpu);
        }
      }
    }
    for (std::size_t own = 0; own < ranks.size(); ++own) {
      int parts = 0;
      for (int cpu = 0; cpu < num_cpus; ++cpu) {
        int holders = 0;
        for (const auto& rank : ranks) {
          holders += rank.allows(cpu) ? 1 : 0;
        }
        parts += ranks[own].allows(cpu) ? 840 / holders : 0;
      }
      ASSERT_EQ(cpu_share(ranks, own).cpus, std::max(1, parts / 840));
    }
  }
}

TEST(ComputeThreads, WhatTheUserSetComesFirst) {
  const CpuShare share = {.cpus = 8, .from = "quota"};
  EXPECT_EQ(compute_threads("3", share).count, 3);
  EXPECT_EQ(compute_threads("3", share).from, "OMP_NUM_THREADS");
  EXPECT_EQ(compute_threads("16,4", share).count, 16) << "more than there are: as the user wants";
  EXPECT_EQ(compute_threads(nullptr, share).count, 8);
  EXPECT_EQ(compute_threads("", share).count, 8);
  EXPECT_EQ(compute_threads(nullptr, share).from, "quota");
}

TEST(ComputeThreads, WhatIsNoNumberIsRefused) {
  for (const char* text : {"0", "-1", "two", "2x", " 2", ",2", "99999", "1e3"}) {
    EXPECT_THROW(static_cast<void>(compute_threads(text, {})), InputError) << text;
  }
}

class Quotas : public ::testing::Test {
 protected:
  void write(const std::string& file, const std::string& text) {
    fs::create_directories((folder_.path() / file).parent_path());
    std::ofstream(folder_.path() / file) << text;
  }

  std::vector<double> read(const std::string& membership) {
    limits_ = {};
    read_cpu_quotas(folder_.path(), membership, limits_);
    std::vector<double> cpus;
    for (int i = 0; i < limits_.num_quotas; ++i) {
      cpus.push_back(limits_.quotas.at(static_cast<std::size_t>(i)).cpus);
    }
    return cpus;
  }

  ScratchFolder folder_;
  CpuLimits limits_;
};

using Cpus = std::vector<double>;

TEST_F(Quotas, OfVersion2UpToTheMount) {
  write("job/cpu.max", "800000 100000\n");
  write("job/task/cpu.max", "150000 100000\n");
  write("other/cpu.max", "10000 100000\n");
  EXPECT_EQ(read("0::/job/task\n"), (Cpus{1.5, 8}));
  EXPECT_EQ(read("0::/\n"), Cpus{});
}

TEST_F(Quotas, MaxIsNone) {
  write("cpu.max", "max 100000\n");
  EXPECT_EQ(read("0::/\n"), Cpus{});
}

TEST_F(Quotas, OfVersion1) {
  write("cpu,cpuacct/job/cpu.cfs_quota_us", "250000\n");
  write("cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
  write("cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  write("cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(read("3:memory:/job\n2:cpu,cpuacct:/job\n0::/\n"), Cpus{2.5});
  EXPECT_EQ(read("2:cpuset:/job\n"), Cpus{});
}

TEST_F(Quotas, OfAContainerThatSeesOnlyItsOwn) {
  write("cpu.max", "400000 100000\n");
  EXPECT_EQ(read("0::/a/name/of/the/host\n"), Cpus{4});
}

TEST_F(Quotas, AGroupIsOneUnderBothItsNames) {
  write("a/cpu.max", "400000 100000\n");
  fs::create_directory_symlink(folder_.path() / "a", folder_.path() / "b");
  read("0::/a\n");
  const auto group = limits_.quotas[0].group;
  read("0::/b\n");
  EXPECT_EQ(limits_.quotas[0].group, group);
}

TEST(CpuLimits, OfThisProcess) {
  const auto limits = read_cpu_limits();
  int cpus = 0;
  for (int cpu = 0; cpu < CpuLimits::kMaxCpus; ++cpu) {
    cpus += limits.allows(cpu) ? 1 : 0;
  }
  EXPECT_GE(cpus, 1);
}

}  // namespace
}  // namespace dovetail
