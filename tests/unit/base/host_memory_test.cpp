// The memory of this host, as /proc and the control groups say it.
#include "framework/base/host_memory.hpp"

#include <fstream>

#include <gtest/gtest.h>

#include "framework/base/scratch_folder.hpp"

namespace dovetail {
namespace {

class HostMemoryOf : public ::testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) const {
    const auto file = folder_.path() / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }

  std::int64_t bytes() const { return host_memory(folder_.path()).value().bytes; }

  std::string source() const { return host_memory(folder_.path()).value().source; }

  ScratchFolder folder_;
};

TEST_F(HostMemoryOf, AHostThatSaysNothingIsNotKnown) {
  EXPECT_EQ(host_memory(folder_.path()), std::nullopt);
}

TEST_F(HostMemoryOf, IsTheTotal) {
  write("proc/meminfo", "MemFree:        100 kB\nMemTotal:       2000 kB\nHugePages_Total:   0\n");
  EXPECT_EQ(bytes(), 2000 * 1024);
  EXPECT_EQ(source(), "MemTotal of this host");
}

TEST_F(HostMemoryOf, IsTheLeastLimitOfTheGroupsAbove) {
  write("proc/meminfo", "MemTotal:       2000 kB\n");
  write("proc/self/cgroup", "0::/slurm/job_7/step_0\n");
  write("sys/fs/cgroup/slurm/job_7/step_0/memory.max", "max\n");
  EXPECT_EQ(source(), "MemTotal of this host");
  write("sys/fs/cgroup/slurm/job_7/memory.max", "4096\n");
  write("sys/fs/cgroup/slurm/memory.max", "8192\n");
  EXPECT_EQ(bytes(), 4096);
  EXPECT_EQ(source(), "cgroup limit");
}

TEST_F(HostMemoryOf, ReadsGroupsOfVersionOneAndOfAContainer) {
  write("proc/meminfo", "MemTotal:       2000 kB\n");
  write("proc/self/cgroup", "9:name=systemd:/a\n4:cpu,memory:/not/seen/here\n0::/\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(bytes(), 2000 * 1024) << "no limit";
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "5000\n");
  EXPECT_EQ(bytes(), 5000);
}

TEST(HostMemory, ThisHostSaysIt) {
  EXPECT_GT(host_memory().value().bytes, 1 << 20);
}

}  // namespace
}  // namespace dovetail
