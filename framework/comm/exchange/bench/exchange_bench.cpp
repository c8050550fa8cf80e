#include "framework/comm/exchange/bench/exchange_bench.hpp"

#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bucketize.h>
#include <c10/core/InferenceMode.h>

#include "framework/base/clock.hpp"
#include "framework/base/log.hpp"
#include "framework/base/order_statistics.hpp"
#include "framework/comm/exchange/bench/bench_device.hpp"
#include "framework/comm/exchange/bench/bench_tokens.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/cuda/devices.hpp"
#include "framework/mpi/collectives.hpp"

namespace dovetail {
namespace {

constexpr int kPasses = 10;  ///< of a run
constexpr int kRuns = 4;     ///< the first is not counted
constexpr int kHostPasses = 9;
constexpr std::uint64_t kSeed = 1;

double gbs(double bytes, double us) {
  return us > 0 ? bytes * 1e-3 / us : 0.0;
}

class Bench {
 public:
  Bench(const MpiSession& session,
        const ExchangeBenchOptions& options,
        bool names_exchanges,
        const WaitPolicy& wait)
      : session_(session),
        world_(session.world()),
        options_(options),
        names_exchanges_(names_exchanges),
        wait_(wait),
        device_(options.device == DeviceKind::cuda ? make_gpu_bench_device(session, wait)
                                                   : make_host_bench_device(session, wait)) {}

  ExchangeBench run() {
    ExchangeBench bench = {
        .device = device_->name(),
        .nccl = on_gpu() ? loaded_nccl() : "none",
        .num_ranks = session_.world_size(),
        .ranks_per_host = session_.local_size(),
        .hidden = options_.hidden,
        .num_experts = options_.num_experts,
        .top_k = options_.top_k,
        .dtype = std::string(to_string(on_gpu() ? DType::bfloat16 : DType::float32)),
        .rows = {}};
    for (const auto tokens : options_.tokens) {
      for (const auto& exchange : options_.exchanges) {
        add_exchange(exchange, tokens, bench.rows);
      }
      if (session_.world_size() > 1) {
        add_ceilings(tokens, bench.rows);
      }
    }
    return bench;
  }

 private:
  bool on_gpu() const { return options_.device == DeviceKind::cuda; }

  at::ScalarType dtype() const { return on_gpu() ? at::kBFloat16 : at::kFloat; }

  ExchangeShape shape() const {
    return {.ep_size = session_.world_size(),
            .ep_rank = session_.rank().value,
            .num_experts = options_.num_experts,
            .top_k = options_.top_k,
            .hidden = options_.hidden,
            .dtype = dtype()};
  }

  std::int64_t over_ranks(std::int64_t value, Reduction reduction) const {
    std::int64_t values[] = {value};
    all_reduce(world_, values, reduction, wait_);
    return values[0];
  }

  /// In steps of a nanosecond.
  double slowest(double us) const {
    return static_cast<double>(over_ranks(std::llround(us * 1e3), Reduction::max)) * 1e-3;
  }

  void meet() const {
    device_->wait();
    over_ranks(0, Reduction::sum);
  }

  void add_exchange(const std::string& name,
                    std::int64_t tokens,
                    std::vector<ExchangeBenchRow>& rows) {
    std::unique_ptr<Exchange> made;
    try {
      made = make_exchange(name, on_gpu(), shape(), device_->setting(options_.comm_sms));
    } catch (const InputError& error) {
      if (names_exchanges_) {
        throw;
      }
      if (session_.rank().value == 0 && tokens == options_.tokens.front()) {
        log_line(std::string("left out: ") + error.what());
      }
      return;
    }
    for (const int comm_sms : options_.comm_sms) {
      for (const auto& routing : options_.routings) {
        for (const bool captured : {false, true}) {
          if (captured && (!on_gpu() || max_graph_mode(name) != GraphMode::full)) {
            continue;
          }
          const std::int64_t bounds[] = {tokens};
          made->buffers().begin_step(bounds, comm_sms);
          ExchangeBenchRow row = {.exchange = name,
                                  .tokens = tokens,
                                  .comm_sms = comm_sms,
                                  .routing = routing,
                                  .mode = captured ? "graph" : "eager"};
          measure(*made, captured, row);
          rows.push_back(std::move(row));
        }
      }
    }
    meet();  // nobody's memory goes while a peer may still use it
  }

  void measure(Exchange& exchange, bool captured, ExchangeBenchRow& row) {
    const auto routing = bench_routing(row.routing);
    auto in = make_bench_tokens(routing, shape(), row.tokens, kSeed, device_->device());
    at::Tensor output;
    const auto pass = [&](const auto& mark) {
      exchange.prepare(0, in.routed());
      mark();
      exchange.dispatch(0, 0);
      mark();
      const auto rows = exchange.arrange(0, 0).rows;
      mark();
      exchange.reduce(0, 0, rows);
      mark();
      exchange.combine(0, 0);
      mark();
      output = exchange.finish(0);
      mark();
    };
    const auto nothing = [] {};
    pass(nothing);  // eager, so that all that is made late is there
    meet();
    exchange.meter().reset();
    pass(nothing);
    device_->wait();
    count_traffic(exchange.meter().traffic(), row);
    const auto timed = device_->make_run(
        [&](const std::function<void()>& mark) {
          mark();
          for (int i = 0; i < kPasses; ++i) {
            pass(mark);
          }
        },
        captured);
    add_times(*timed, row);
    const auto once = device_->make_run([&](const auto&) { pass(nothing); }, captured);
    std::vector<double> host_us;
    for (int i = 0; i < kHostPasses; ++i) {
      meet();
      const auto start_ns = now_ns();
      captured ? once->start() : pass(nothing);
      device_->wait();
      host_us.push_back(static_cast<double>(now_ns() - start_ns) * 1e-3);
    }
    row.host_us = slowest(median(host_us));
    const auto other =
        make_bench_tokens(routing, shape(), row.tokens, kSeed + 1, device_->device());
    in.hidden.copy_(other.hidden);
    in.expert_ids.copy_(other.expert_ids);
    meet();
    if (captured) {
      once->start();
    } else {
      scaled_pass(exchange, in, output);
    }
    device_->wait();
    exchange.buffers().check_step();
    row.wrong_words = over_ranks(count_wrong(in, output, !captured), Reduction::sum);
  }

  /// Each expert multiplies its rows by its factor.
  void scaled_pass(Exchange& exchange, const BenchTokens& in, at::Tensor& output) {
    exchange.prepare(0, in.routed());
    exchange.dispatch(0, 0);
    const auto arranged = exchange.arrange(0, 0);
    const auto rows = arranged.rows.size(0);
    const auto options = at::TensorOptions().dtype(at::kInt).device(device_->device());
    const auto local =
        at::bucketize(at::arange(rows, options), arranged.offsets, /*out_int32=*/false, true);
    const auto first = shape().ep_rank * shape().experts_per_rank();
    const auto factors = bench_factors(local + first).to(dtype()).unsqueeze(1);
    exchange.reduce(0, 0, arranged.rows.mul(factors));
    exchange.combine(0, 0);
    output = exchange.finish(0);
  }

  void count_traffic(const Traffic& traffic, ExchangeBenchRow& row) {
    const auto most = [this](std::int64_t bytes) {
      return static_cast<double>(over_ranks(bytes, Reduction::max));
    };
    row.dispatch_megabytes = most(traffic.dispatch_wire_bytes) * 1e-6;
    // Bytes until the times are known.
    row.dispatch_wire_gbs = most(traffic.dispatch_wire_bytes);
    row.combine_wire_gbs = most(traffic.combine_wire_bytes);
    row.dispatch_logical_gbs = most(traffic.dispatch_logical_bytes);
    row.combine_logical_gbs = most(traffic.combine_logical_bytes);
  }

  void add_times(BenchRun& timed, ExchangeBenchRow& row) {
    double* const calls[] = {&row.prepare_us,
                             &row.dispatch_us,
                             &row.arrange_us,
                             &row.reduce_us,
                             &row.combine_us,
                             &row.finish_us};
    std::vector<double> samples[std::size(calls)];
    for (int run = 0; run < kRuns; ++run) {
      meet();
      timed.start();
      const auto gaps = timed.gaps_us();
      for (std::size_t i = 0; run > 0 && i < gaps.size(); ++i) {
        samples[i % std::size(calls)].push_back(gaps[i]);
      }
    }
    for (std::size_t call = 0; call < std::size(calls); ++call) {
      *calls[call] = slowest(median(samples[call]));
    }
    row.dispatch_wire_gbs = gbs(row.dispatch_wire_gbs, row.dispatch_us);
    row.combine_wire_gbs = gbs(row.combine_wire_gbs, row.combine_us);
    row.dispatch_logical_gbs = gbs(row.dispatch_logical_gbs, row.dispatch_us);
    row.combine_logical_gbs = gbs(row.combine_logical_gbs, row.combine_us);
  }

  void add_ceilings(std::int64_t tokens, std::vector<ExchangeBenchRow>& rows) {
    const auto bytes = tokens * shape().row_bytes() / 4 * 4;
    const auto sent = static_cast<double>(bytes) * (session_.world_size() - 1);
    for (const auto& ceiling : device_->ceilings(bytes, options_.comm_sms)) {
      ExchangeBenchRow row = {.exchange = ceiling.name,
                              .tokens = tokens,
                              .comm_sms = ceiling.comm_sms,
                              .routing = "balanced",
                              .mode = "eager",
                              .dispatch_megabytes = sent * 1e-6};
      ceiling.move();
      meet();
      row.wrong_words = over_ranks(ceiling.wrong_words(), Reduction::sum);
      const auto timed = device_->make_run(
          [&](const std::function<void()>& mark) {
            mark();
            for (int i = 0; i < kPasses; ++i) {
              ceiling.move();
              mark();
            }
          },
          /*captured=*/false);
      std::vector<double> samples;
      for (int run = 0; run < kRuns; ++run) {
        meet();
        timed->start();
        const auto gaps = timed->gaps_us();
        samples.insert(samples.end(), gaps.begin(), gaps.end());
      }
      row.dispatch_us = slowest(median(samples));
      row.dispatch_wire_gbs = gbs(sent, row.dispatch_us);
      rows.push_back(std::move(row));
    }
    meet();
  }

  const MpiSession& session_;
  const MpiComm world_;
  const ExchangeBenchOptions options_;
  const bool names_exchanges_;  ///< all that were named must run
  const WaitPolicy wait_;
  const std::unique_ptr<BenchDevice> device_;
};

}  // namespace

ExchangeBench bench_exchange(const MpiSession& session,
                             const ExchangeBenchOptions& options,
                             const WaitPolicy& wait) {
  const c10::InferenceMode inference;
  const auto made = resolve_options(options, session, wait);
  return Bench(session, made, !options.exchanges.empty(), wait).run();
}

}  // namespace dovetail
