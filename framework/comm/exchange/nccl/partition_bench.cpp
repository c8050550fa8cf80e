#include "framework/comm/exchange/bench/partition_bench.hpp"

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include <ATen/TensorOperators.h>
#include <c10/core/InferenceMode.h>
#include <c10/cuda/CUDAGuard.h>

#include "framework/base/error.hpp"
#include "framework/base/log.hpp"
#include "framework/base/order_statistics.hpp"
#include "framework/comm/exchange/bench/bench_device.hpp"
#include "framework/comm/exchange/bench/bench_ranks.hpp"
#include "framework/comm/exchange/nccl/partition_exchange.hpp"
#include "framework/comm/exchange/nccl/partition_lanes.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/device_binding.hpp"
#include "framework/cuda/devices.hpp"
#include "framework/cuda/gpu_arithmetic.hpp"
#include "framework/cuda/green_partition.hpp"
#include "framework/cuda/sm_partition.hpp"

namespace dovetail {
namespace {

constexpr int kReplays = 25;         ///< of each graph; the first is not counted
constexpr int kTrials = 3;           ///< to see how long an op takes
constexpr double kTargetUs = 4'000;  ///< of a lane

/// A compute op without a bound: what all others are held against.
struct Reference {
  PartitionWork work;
  at::Tensor output;
};

/// The samples of a row, microseconds.
struct Samples {
  std::vector<double> compute_alone;
  std::vector<double> compute_beside;
  std::vector<double> exchange_alone;
  std::vector<double> exchange_beside;
  // Of all ops of a lane.
  std::vector<double> all_compute;
  std::vector<double> all_exchange;
  std::vector<double> together;
};

void append(std::vector<double>& to, const std::vector<double>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

std::vector<double> durations(const std::vector<double>& marks) {
  return durations_until(marks, std::numeric_limits<double>::infinity());
}

class Bench {
 public:
  Bench(const MpiSession& session,
        const ExchangeBenchOptions& options,
        const MakePartitionWorks& make_works,
        const WaitPolicy& wait)
      : session_(session),
        ranks_(session.world(), wait),
        options_(options),
        device_(make_gpu_bench_device(session, wait)),
        pool_(device_->device().index()) {
    set_gpu_arithmetic();
    for (auto& work : make_works()) {
      references_.push_back({.work = work, .output = work.run()});
    }
    device_->wait();  // the lanes do not
    for (int& comm_sms : options_.comm_sms) {
      comm_sms = comm_sms == 0 ? kAllSms : comm_sms;
    }
  }

  PartitionBench run() {
    PartitionBench bench = {.device = device_->name(),
                            .nccl = loaded_nccl(),
                            .num_ranks = session_.world_size(),
                            .options = options_};
    if (session_.world_size() > 1) {
      exchange_ =
          std::make_unique<PartitionExchange>(*device_, session_, options_, [this] { meet(); });
      bench.exchange = exchange_->name();
    } else {
      log_line("bench partition: of one rank no row travels; compute is measured alone");
    }
    for (const auto& reference : references_) {
      for (const int comm_sms : options_.comm_sms) {
        for (const auto kind : {SmPartitionKind::soft, SmPartitionKind::hard}) {
          if (kind == SmPartitionKind::soft || comm_sms != kAllSms) {
            add_row(reference, kind, comm_sms, bench);
          }
        }
      }
    }
    meet();  // nobody's memory goes while a peer may still use it
    return bench;
  }

 private:
  double slowest_median(std::vector<double> samples) const {
    return ranks_.slowest(median(samples));
  }

  Spread slowest_spread(const std::vector<double>& samples) const {
    const auto own = spread_of(samples);
    return {.median = ranks_.slowest(own.median),
            .low = ranks_.slowest(own.low),
            .high = ranks_.slowest(own.high)};
  }

  /// Nothing runs on the lanes.
  void meet() const {
    device_->wait();
    ranks_.reduce(0, Reduction::sum);
  }

  void add_row(const Reference& reference,
               SmPartitionKind kind,
               int comm_sms,
               PartitionBench& bench) {
    std::optional<GreenPartition> cut;
    std::string refusal;
    if (kind == SmPartitionKind::hard) {
      try {
        cut.emplace(comm_sms);
      } catch (const InputError& error) {
        refusal = error.what();
      }
      if (ranks_.reduce(refusal.empty() ? 1 : 0, Reduction::min) == 0) {
        if (&reference == &references_.front()) {
          bench.left_out.push_back("hard, " + (refusal.empty() ? "another rank" : refusal));
        }
        return;
      }
    }
    const PartitionLanes lanes =
        cut ? PartitionLanes{.compute = cut->compute_stream(), .comm = cut->comm_stream()}
            : PartitionLanes{.compute = c10::cuda::getStreamFromPool(false),
                             .comm = c10::cuda::getStreamFromPool(true)};
    const int left_out = cut ? cut->sms().comm_sms : comm_sms == kAllSms ? 0 : comm_sms;
    const SmPartition partition(left_out);
    PartitionRow row = {.compute = reference.work.name,
                        .partition = kind,
                        .comm_sms = comm_sms,
                        .compute_sms = SmPartition::sms_to_compute()};
    measure(reference, lanes, row);
    bench.rows.push_back(std::move(row));
  }

  static void run_on(const c10::cuda::CUDAStream& stream, const std::function<void()>& run) {
    {
      const c10::cuda::CUDAStreamGuard guard(stream);
      run();
    }
    check_cuda(cudaStreamSynchronize(stream), "an op ahead of its capture");
  }

  /// What an op of a lane takes, roughly; equal on all ranks.
  double look(const PartitionLanes& lanes, const LaneOps& compute, const LaneOps& comm) {
    LaneGraph graph(lanes, pool_, compute, comm);
    std::vector<double> all;
    for (int i = 0; i < kTrials; ++i) {
      meet();
      const auto marks = graph.replay();
      append(all, durations(compute.count > 0 ? marks.compute : marks.comm));
    }
    return slowest_median(std::move(all));
  }

  void measure(const Reference& reference, const PartitionLanes& lanes, PartitionRow& row) {
    const c10::cuda::CUDAStream both_streams[] = {lanes.compute, lanes.comm};
    warm_up_blas(both_streams);
    at::Tensor output;
    LaneOps compute = {.count = kLeastOps, .run = [&] { output = reference.work.run(); }};
    run_on(lanes.compute, compute.run);
    if (exchange_ == nullptr) {
      compute.count = counts_for(look(lanes, compute, {}), kTargetUs, kTargetUs).compute;
      LaneGraph alone(lanes, pool_, compute, {});
      Samples samples;
      for (int i = 0; i < kReplays; ++i) {
        poison_at_the_end(i, output);
        const auto marks = alone.replay();
        if (i > 0) {
          append(samples.compute_alone, durations(marks.compute));
        }
      }
      row.compute_alone = slowest_spread(samples.compute_alone);
      row.wrong_compute = count_other_bits(output, reference.output);
      return;
    }
    exchange_->begin(row.comm_sms);
    LaneOps exchange = {.count = kLeastOps, .run = [this] { exchange_->run(); }};
    run_on(lanes.comm, exchange.run);
    const double compute_us = look(lanes, compute, {});
    const auto counts = counts_for(compute_us, look(lanes, {}, exchange), kTargetUs);
    compute.count = counts.compute;
    exchange.count = counts.exchange;
    take(lanes, compute, exchange, output, row);
    row.wrong_compute = count_other_bits(output, reference.output);
    row.wrong_exchange = ranks_.reduce(exchange_->count_wrong_elements(), Reduction::sum);
  }

  /// Each alone and both at once, in turn. `output` becomes that of the last op of both at once.
  void take(const PartitionLanes& lanes,
            const LaneOps& compute,
            const LaneOps& exchange,
            at::Tensor& output,
            PartitionRow& row) {
    LaneGraph compute_alone(lanes, pool_, compute, {});
    LaneGraph exchange_alone(lanes, pool_, {}, exchange);
    LaneGraph both(lanes, pool_, compute, exchange);
    Samples samples;
    for (int i = 0; i < kReplays; ++i) {
      meet();
      const auto of_compute = compute_alone.replay().compute;
      meet();
      const auto of_exchange = exchange_alone.replay().comm;
      poison_at_the_end(i, output);
      meet();
      const auto beside = both.replay();
      if (i == 0) {
        continue;
      }
      append(samples.compute_alone, durations(of_compute));
      append(samples.exchange_alone, durations(of_exchange));
      append(samples.compute_beside, durations_until(beside.compute, beside.comm.back()));
      append(samples.exchange_beside, durations_until(beside.comm, beside.compute.back()));
      samples.all_compute.push_back(of_compute.back());
      samples.all_exchange.push_back(of_exchange.back());
      samples.together.push_back(std::max(beside.compute.back(), beside.comm.back()));
    }
    row.compute_alone = slowest_spread(samples.compute_alone);
    row.compute_beside = slowest_spread(samples.compute_beside);
    row.exchange_alone = slowest_spread(samples.exchange_alone);
    row.exchange_beside = slowest_spread(samples.exchange_beside);
    const double all_compute = slowest_median(samples.all_compute);
    const double all_exchange = slowest_median(samples.all_exchange);
    row.together_us = slowest_median(samples.together);
    row.sum_us = all_compute + all_exchange;
    row.longer_us = std::max(all_compute, all_exchange);
  }

  /// Ahead of the last replay: what it does not write is seen.
  void poison_at_the_end(int replay, const at::Tensor& output) const {
    if (replay + 1 != kReplays) {
      return;
    }
    output.fill_(std::numeric_limits<double>::quiet_NaN());
    if (exchange_ != nullptr) {
      exchange_->poison();
    }
    device_->wait();
  }

  std::int64_t count_other_bits(const at::Tensor& output, const at::Tensor& wanted) const {
    const auto other = output.view(at::kShort).ne(wanted.view(at::kShort)).sum();
    return ranks_.reduce(other.item<std::int64_t>(), Reduction::sum);
  }

  const MpiSession& session_;
  const BenchRanks ranks_;
  ExchangeBenchOptions options_;  ///< with kAllSms in place of 0
  const std::unique_ptr<BenchDevice> device_;
  const GraphPool pool_;
  std::vector<Reference> references_;
  std::unique_ptr<PartitionExchange> exchange_;  ///< null in a group of one
};

}  // namespace

PartitionBench bench_partition(const MpiSession& session,
                               const ExchangeBenchOptions& options,
                               const MakePartitionWorks& make_works,
                               const WaitPolicy& wait) {
  const c10::InferenceMode inference;
  const auto made = resolve_partition_options(options, session.world_size());
  return Bench(session, made, make_works, wait).run();
}

}  // namespace dovetail
