// How many threads a rank computes with, from what its environment says and the CPUs that it has.
#pragma once

#include <functional>
#include <string>

#include "framework/base/cpu_share.hpp"

namespace dovetail {

/// A variable of the environment: its value, or null.
using VariableReader = std::function<const char*(const char* name)>;

/// As compute_threads with OMP_NUM_THREADS. Where that is not set, no more than Slurm was asked for
/// in each task: where it binds no tasks (task/none), each of them may run on the whole host. Pure.
ComputeThreads threads_of_task(const VariableReader& variable, const CpuShare& share);

/// What to say where MKL_NUM_THREADS asks for something else: LibTorch has one number of threads,
/// for MKL, too. Empty = nothing. Pure.
std::string ignored_threads(const VariableReader& variable, const ComputeThreads& threads);

}  // namespace dovetail
