// `dovetail bench partition`: what compute and an exchange take from each other on one GPU, by the
// SMs that the exchange has, as a bound (soft) and as SMs of its own (hard).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/comm/exchange/bench/bench_options.hpp"
#include "framework/comm/exchange/bench/partition_table.hpp"
#include "framework/mpi/session.hpp"
#include "framework/mpi/wait.hpp"

namespace dovetail {

/// An op of compute. `run` enqueues it on the current stream, also in captures, and returns what it
/// has computed, a tensor of 2-byte elements; every call computes the same.
struct PartitionWork {
  std::string name;
  std::function<at::Tensor()> run;
};

/// Called once the GPU is bound, on a stream of its own.
using MakePartitionWorks = std::function<std::vector<PartitionWork>()>;

/// What was measured, and on what.
struct PartitionBench {
  std::string device;
  std::string nccl;
  int num_ranks = 1;
  std::string exchange = "none";  ///< none: of one rank no row travels
  ExchangeBenchOptions options;
  std::vector<PartitionRow> rows;     ///< by compute, then by comm_sms, then soft and hard
  std::vector<std::string> left_out;  ///< partitions that the GPU refuses, with the reason
};

/// With defaults in place of what is open: one number of tokens (4096), rows of 7168, 8 of 256
/// experts, balanced; comm_sms: 0 (no bound, which is always there, first), 4, 8, 16, 32.
/// `exchanges`: at most one. Throws InputError for what does not fit. Pure.
ExchangeBenchOptions resolve_partition_options(const ExchangeBenchOptions& options, int num_ranks);

/// Runs graphs of each op alone and of both at once, in turn, under each partition. Collective over
/// the world; times are equal on all ranks. Main thread. Throws InputError for options that do not
/// fit, in a build without CUDA and, as AgreedError, where there are fewer GPUs than ranks.
PartitionBench bench_partition(const MpiSession& session,
                               const ExchangeBenchOptions& options,
                               const MakePartitionWorks& make_works,
                               const WaitPolicy& wait);

}  // namespace dovetail
