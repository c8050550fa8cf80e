// How many CPUs a rank may count as its own, and how many threads it computes with.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "framework/base/cpu_limits.hpp"

namespace dovetail {

struct CpuShare {
  int cpus = 1;                   ///< at least 1
  std::string from = "affinity";  ///< "affinity" or "quota": which of them decides
};

/// The share of rank `own` of a host. A CPU that several ranks may use is divided among these ranks
/// only, so what a launcher has divided already is not divided again; a quota is divided among the
/// ranks whose group it is. The smaller one counts, rounded down. `ranks`: all of the host. Pure.
CpuShare cpu_share(std::span<const CpuLimits> ranks, std::size_t own);

struct ComputeThreads {
  int count = 1;
  std::string from;  ///< "OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK", or as CpuShare
};

/// What the user has set, else as many as CPUs. `omp_num_threads`: the variable's value, null or
/// empty = not set; a list ("4,2") gives the first. Throws InputError for anything else than whole
/// numbers from 1 on. Pure.
ComputeThreads compute_threads(const char* omp_num_threads, const CpuShare& share);

}  // namespace dovetail
