// `dovetail bench exchange`: what each exchange takes to move the rows of a layer, beside what the
// machine can do.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/comm/exchange/bench/bench_bandwidth.hpp"
#include "framework/comm/exchange/bench/bench_options.hpp"
#include "framework/mpi/session.hpp"
#include "framework/mpi/wait.hpp"

namespace dovetail {

/// One exchange, or one ceiling, for one size. Times are medians of the slowest rank; bytes those
/// of the rank that sends most.
struct ExchangeBenchRow {
  std::string exchange;     ///< in brackets: a ceiling
  bool is_ceiling = false;  ///< of whose times and bandwidths there is only what is of a dispatch
  std::int64_t tokens = 0;
  int comm_sms = 0;
  int num_groups = 1;  ///< into which the experts of a rank are cut; all that follows is of all
  std::string routing;
  std::string mode;  ///< eager, graph
  // On a GPU between events on the stream, with the queue filled ahead.
  double prepare_us = 0;
  double dispatch_us = 0;
  double arrange_us = 0;
  double reduce_us = 0;
  double combine_us = 0;
  double finish_us = 0;
  double first_dispatch_us = 0;  ///< of the first group alone
  double first_combine_us = 0;
  double host_us = 0;             ///< all calls and the wait for their end, as the host sees it
  double dispatch_megabytes = 0;  ///< on the wire, metadata and padding included
  BenchBandwidth dispatch;
  BenchBandwidth combine;
  std::int64_t wrong_words = 0;  ///< elements of all ranks that are not as they should be, with
                                 ///< another routing than was measured
};

struct ExchangeBench {
  std::string device;
  std::string nccl = "none";  ///< version, on GPUs
  int num_ranks = 1;
  int ranks_per_host = 1;  ///< of this rank's host
  std::int64_t hidden = 0;
  int num_experts = 0;
  int top_k = 0;
  std::string dtype;  ///< as execution.dtype
  std::vector<ExchangeBenchRow> rows;
};

/// Collective over the world; equal on all ranks but for what only this one has measured of it.
/// Throws InputError for options that do not fit.
ExchangeBench bench_exchange(const MpiSession& session,
                             const ExchangeBenchOptions& options,
                             const WaitPolicy& wait);

}  // namespace dovetail
