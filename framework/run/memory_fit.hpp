// Whether the memory that `dovetail check` counts is there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "framework/run/checked_run.hpp"

namespace dovetail {

/// Memory that a run may use.
struct AvailableMemory {
  std::int64_t bytes = 0;  ///< of each GPU, or of the host for all ranks together
  std::string source;      ///< what says so: "--gpu-memory-gib", "NVIDIA H200, ...", "cgroup limit"
};

/// Of each GPU: `gpu_bytes` where that is given, else the least of the GPUs of this machine. On CPU
/// ranks that of this host. Nothing where it is not known. Local.
std::optional<AvailableMemory> available_memory(const CheckedRun& run,
                                                std::optional<std::int64_t> gpu_bytes);

/// What a policy needs against what is there.
struct MemoryFit {
  /// A grid on which a policy fits.
  struct Grid {
    int expert_parallel = 0;
    std::int64_t needed_bytes = 0;
  };

  std::string policy;
  std::int64_t needed_bytes = 0;  ///< of the rank that has most; on CPU ranks of all together
  bool fits = true;
  std::optional<Grid> smallest;   ///< on GPUs: that of the fewest ranks in a group
  int tried_expert_parallel = 0;  ///< the largest that was tried; 0 = none
};

/// Of each policy. On GPUs tries every grid that the policy could run on, from one rank to one
/// expert a rank, with the requests of each rank as they are. Throws InputError as rank_memory.
std::vector<MemoryFit> fit_memory(const CheckedRun& run, std::int64_t available_bytes);

/// "policy dual_batch: does not fit, needs 95.20 of 80.00 GiB; the smallest expert_parallel that
/// fits is 8 (61.30 GiB)".
std::string describe(const MemoryFit& fit, std::int64_t available_bytes);

}  // namespace dovetail
