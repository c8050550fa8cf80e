#include "framework/base/cpu_share.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

#include "framework/base/error.hpp"
#include "framework/base/text.hpp"

namespace dovetail {
namespace {

constexpr int kMaxThreads = CpuLimits::kMaxCpus;

/// Sums of shares like 1/3 may end just below the whole number that they are.
int round_down(double cpus) {
  return std::max(1, static_cast<int>(std::floor(cpus + 1e-6)));
}

double share_of_affinity(std::span<const CpuLimits> ranks, const CpuLimits& own) {
  double cpus = 0;
  for (int cpu = 0; cpu < CpuLimits::kMaxCpus; ++cpu) {
    if (own.allows(cpu)) {
      cpus +=
          1.0 /
          static_cast<double>(std::count_if(
              ranks.begin(), ranks.end(), [cpu](const CpuLimits& one) { return one.allows(cpu); }));
    }
  }
  return cpus;
}

bool is_in(std::uint64_t group, const CpuLimits& rank) {
  const auto end = rank.quotas.begin() + rank.num_quotas;
  return std::any_of(
      rank.quotas.begin(), end, [group](const CpuQuota& one) { return one.group == group; });
}

}  // namespace

CpuShare cpu_share(std::span<const CpuLimits> ranks, std::size_t own) {
  const CpuLimits& limits = ranks[own];
  double cpus = share_of_affinity(ranks, limits);
  CpuShare share;
  for (int i = 0; i < limits.num_quotas; ++i) {
    const auto& quota = limits.quotas.at(static_cast<std::size_t>(i));
    const auto sharing = std::count_if(
        ranks.begin(), ranks.end(), [&](const CpuLimits& one) { return is_in(quota.group, one); });
    if (const double part = quota.cpus / static_cast<double>(sharing); part < cpus) {
      cpus = part;
      share.from = "quota";
    }
  }
  share.cpus = round_down(cpus);
  return share;
}

ComputeThreads compute_threads(const char* omp_num_threads, const CpuShare& share) {
  const std::string_view text = omp_num_threads == nullptr ? "" : omp_num_threads;
  if (text.empty()) {
    return {share.cpus, share.from};
  }
  const auto first = text.substr(0, text.find(','));
  int count = 0;
  const auto [end, error] = std::from_chars(first.data(), first.data() + first.size(), count);
  if (error != std::errc() || end != first.data() + first.size() || count < 1 ||
      count > kMaxThreads) {
    throw InputError("OMP_NUM_THREADS=" + printable(text) + ": allowed: a whole number from 1 to " +
                     std::to_string(kMaxThreads) + ", or a list of them");
  }
  return {count, "OMP_NUM_THREADS"};
}

}  // namespace dovetail
