#include "framework/base/cpu_limits.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sched.h>
#include <sstream>
#include <sys/stat.h>

namespace dovetail {
namespace {

namespace fs = std::filesystem;

/// Version 2: "max 100000" or "150000 100000", microseconds of CPU time in each period.
std::optional<double> quota_of_version_2(const fs::path& group) {
  std::ifstream file(group / "cpu.max");
  double quota_us = 0;
  double period_us = 0;
  if (file >> quota_us >> period_us && quota_us > 0 && period_us > 0) {
    return quota_us / period_us;
  }
  return std::nullopt;
}

/// Version 1: a file each; -1 = no quota.
std::optional<double> quota_of_version_1(const fs::path& group) {
  std::ifstream quota(group / "cpu.cfs_quota_us");
  std::ifstream period(group / "cpu.cfs_period_us");
  double quota_us = 0;
  double period_us = 0;
  if (quota >> quota_us && period >> period_us && quota_us > 0 && period_us > 0) {
    return quota_us / period_us;
  }
  return std::nullopt;
}

/// The same number for all processes of the host, whatever they call the folder.
std::uint64_t identity(const fs::path& group) {
  struct stat status {};

  if (stat(group.c_str(), &status) != 0) {
    return 0;
  }
  return static_cast<std::uint64_t>(status.st_dev) << 40U ^ status.st_ino;
}

/// The quotas from `group` up to `mount`.
void add_quotas(const fs::path& mount,
                fs::path group,
                std::optional<double> (*quota_of)(const fs::path&),
                CpuLimits& limits) {
  std::error_code error;
  if (!fs::is_directory(group, error)) {
    group = mount;
  }
  while (limits.num_quotas < CpuLimits::kMaxQuotas) {
    if (const auto cpus = quota_of(group)) {
      limits.quotas.at(static_cast<std::size_t>(limits.num_quotas++)) = {identity(group), *cpus};
    }
    if (group == mount || group == group.parent_path()) {
      return;
    }
    group = group.parent_path();
  }
}

}  // namespace

CpuLimits read_cpu_limits() {
  CpuLimits limits;
  cpu_set_t* set = CPU_ALLOC(CpuLimits::kMaxCpus);
  const std::size_t size = CPU_ALLOC_SIZE(CpuLimits::kMaxCpus);
  if (set != nullptr && sched_getaffinity(0, size, set) == 0) {
    for (int cpu = 0; cpu < CpuLimits::kMaxCpus; ++cpu) {
      if (CPU_ISSET_S(static_cast<std::size_t>(cpu), size, set)) {
        limits.allow(cpu);
      }
    }
  }
  CPU_FREE(set);
  std::ifstream file("/proc/self/cgroup");
  const std::string membership(std::istreambuf_iterator<char>(file), {});
  read_cpu_quotas("/sys/fs/cgroup", membership, limits);
  return limits;
}

void read_cpu_quotas(const std::string& mount, const std::string& membership, CpuLimits& limits) {
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) {
      continue;
    }
    const auto controllers = line.substr(first + 1, second - first - 1);
    const auto group = fs::path(line.substr(second + 1)).relative_path();
    if (controllers.empty()) {
      add_quotas(mount, fs::path(mount) / group, quota_of_version_2, limits);
    } else if (("," + controllers + ",").find(",cpu,") != std::string::npos) {
      const auto own_mount = fs::path(mount) / controllers;
      add_quotas(own_mount, own_mount / group, quota_of_version_1, limits);
    }
  }
}

}  // namespace dovetail
