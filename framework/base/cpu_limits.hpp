// What the system lets this process use of the host's CPUs.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace dovetail {

/// One group of processes (a container, a job, a task) whose CPU time is limited together.
struct CpuQuota {
  std::uint64_t group = 0;  ///< equal for all processes of a host that share this quota
  double cpus = 0;          ///< CPU time per time
};

/// Trivially copyable: ranks of a host tell each other.
struct CpuLimits {
  static constexpr int kMaxCpus = 4096;
  static constexpr int kMaxQuotas = 8;

  std::array<std::uint64_t, kMaxCpus / 64> allowed{};  ///< bit c: CPU c of the process's affinity
  std::array<CpuQuota, kMaxQuotas> quotas{};           ///< of its own group and of those around it
  int num_quotas = 0;

  void allow(int cpu) {
    allowed.at(static_cast<std::size_t>(cpu / 64)) |= std::uint64_t{1} << (cpu % 64);
  }

  bool allows(int cpu) const {
    return (allowed.at(static_cast<std::size_t>(cpu / 64)) >> (cpu % 64) & 1) != 0;
  }
};

/// The affinity of the calling thread and the quotas of its control groups. What cannot be read
/// limits nothing.
CpuLimits read_cpu_limits();

/// Adds the quotas of the groups that `membership` names, in the form of /proc/self/cgroup, of
/// control groups version 2 (cpu.max) and 1 (cpu.cfs_quota_us), mounted at `mount`. Inside of a
/// container whose groups have other names there, those at the mount point count.
void read_cpu_quotas(const std::string& mount, const std::string& membership, CpuLimits& limits);

}  // namespace dovetail
