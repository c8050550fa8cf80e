#include "framework/comm/exchange/bench/exchange_bench.hpp"

#include <c10/core/InferenceMode.h>

#include "framework/base/clock.hpp"
#include "framework/base/log.hpp"
#include "framework/base/order_statistics.hpp"
#include "framework/comm/exchange/bench/bench_check.hpp"
#include "framework/comm/exchange/bench/bench_device.hpp"
#include "framework/comm/exchange/bench/bench_pass.hpp"
#include "framework/comm/exchange/bench/bench_ranks.hpp"
#include "framework/comm/exchange/bench/bench_tokens.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/cuda/devices.hpp"

namespace dovetail {
namespace {

constexpr int kPasses = 10;  ///< of a run
constexpr int kRuns = 4;     ///< the first is not counted
constexpr int kHostPasses = 9;
constexpr std::uint64_t kSeed = 1;

struct LayerBytes {
  BenchBytes dispatch;
  BenchBytes combine;
};

class Bench {
 public:
  Bench(const MpiSession& session,
        const ExchangeBenchOptions& options,
        bool names_exchanges,
        const WaitPolicy& wait)
      : session_(session),
        ranks_(session.world(), wait),
        options_(options),
        names_exchanges_(names_exchanges),
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

  void meet() const {
    device_->wait();
    ranks_.reduce(0, Reduction::sum);
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
      say_left_out(error, tokens);
      return;
    }
    for (const int num_groups : options_.groups) {
      try {
        check_groups(name, on_gpu(), num_groups, shape().experts_per_rank());
      } catch (const InputError& error) {
        say_left_out(error, tokens);
        continue;
      }
      for (const int comm_sms : options_.comm_sms) {
        for (const auto& routing : options_.routings) {
          const ExchangeBenchRow row = {.exchange = name,
                                        .tokens = tokens,
                                        .comm_sms = comm_sms,
                                        .num_groups = num_groups,
                                        .routing = routing};
          add_modes(*made, row, rows);
        }
      }
    }
    meet();  // nobody's memory goes while a peer may still use it
  }

  /// Once.
  void say_left_out(const InputError& error, std::int64_t tokens) const {
    if (session_.rank().value == 0 && tokens == options_.tokens.front()) {
      log_line(std::string("left out: ") + error.what());
    }
  }

  void add_modes(Exchange& exchange,
                 const ExchangeBenchRow& of_any_mode,
                 std::vector<ExchangeBenchRow>& rows) {
    for (const bool captured : {false, true}) {
      if (captured && (!on_gpu() || max_graph_mode(of_any_mode.exchange) != GraphMode::full)) {
        continue;
      }
      auto row = of_any_mode;
      row.mode = captured ? "graph" : "eager";
      const std::int64_t bounds[] = {row.tokens};
      exchange.buffers().begin_step(bounds, row.comm_sms);
      measure(exchange, captured, row);
      rows.push_back(std::move(row));
    }
  }

  void measure(Exchange& exchange, bool captured, ExchangeBenchRow& row) {
    const auto routing = bench_routing(row.routing);
    const auto own_shape = shape();
    auto in = make_bench_tokens(routing, own_shape, row.tokens, kSeed, device_->device());
    BenchPass layer(exchange, own_shape, row.num_groups);
    const auto pass = [&](const std::function<void()>& mark) {
      return layer.run(in.routed(), BenchExperts::none, mark);
    };
    pass({});  // eager, so that all that is made late is there
    meet();
    exchange.meter().reset();
    pass({});
    device_->wait();
    const auto bytes = count_bytes(exchange.meter().traffic(), in);
    const auto timed = device_->make_run(
        [&](const std::function<void()>& mark) {
          mark();
          for (int i = 0; i < kPasses; ++i) {
            pass(mark);
          }
        },
        captured);
    add_times(*timed, row);
    row.dispatch_megabytes = static_cast<double>(bytes.dispatch.wire) * 1e-6;
    row.dispatch = bench_bandwidth(bytes.dispatch, session_.world_size(), row.dispatch_us);
    row.combine = bench_bandwidth(bytes.combine, session_.world_size(), row.combine_us);
    const auto once = device_->make_run([&](const auto&) { pass({}); }, captured);
    std::vector<double> host_us;
    for (int i = 0; i < kHostPasses; ++i) {
      meet();
      const auto start_ns = now_ns();
      captured ? once->start() : static_cast<void>(pass({}));
      device_->wait();
      host_us.push_back(static_cast<double>(now_ns() - start_ns) * 1e-3);
    }
    row.host_us = ranks_.slowest(median(host_us));
    const auto wrong = wrong_words_of(
        layer,
        *device_,
        captured,
        in,
        [&] {
          return make_bench_tokens(routing, own_shape, row.tokens, kSeed + 1, device_->device());
        },
        [this] { meet(); });
    exchange.buffers().check_step();
    row.wrong_words = ranks_.reduce(wrong, Reduction::sum);
  }

  /// Of the rank that has most.
  LayerBytes count_bytes(const Traffic& traffic, const BenchTokens& in) const {
    const auto most = [this](std::int64_t bytes) { return ranks_.reduce(bytes, Reduction::max); };
    const auto logical = most(
        logical_bytes(in.num_routed(), session_.world_size(), options_.top_k, shape().row_bytes()));
    return {.dispatch = {.wire = most(traffic.dispatch_wire_bytes),
                         .logical = logical,
                         .choices = most(traffic.dispatch_logical_bytes)},
            .combine = {.wire = most(traffic.combine_wire_bytes),
                        .logical = logical,
                        .choices = most(traffic.combine_logical_bytes)}};
  }

  void add_times(BenchRun& timed, ExchangeBenchRow& row) {
    double* const calls[kNumBenchCalls] = {&row.prepare_us,
                                           &row.dispatch_us,
                                           &row.arrange_us,
                                           &row.reduce_us,
                                           &row.combine_us,
                                           &row.finish_us};
    BenchClock clock(row.num_groups);
    for (int run = 0; run < kRuns; ++run) {
      meet();
      timed.start();
      const auto gaps = timed.gaps_us();
      if (run > 0) {
        clock.add(gaps);
      }
    }
    const auto times = clock.medians();
    for (std::size_t call = 0; call < kNumBenchCalls; ++call) {
      *calls[call] = ranks_.slowest(times.calls[call]);
    }
    row.first_dispatch_us = ranks_.slowest(times.first_dispatch);
    row.first_combine_us = ranks_.slowest(times.first_combine);
  }

  void add_ceilings(std::int64_t tokens, std::vector<ExchangeBenchRow>& rows) {
    const auto bytes = tokens * shape().row_bytes() / 4 * 4;
    const int num_ranks = session_.world_size();
    const BenchBytes sent = {.wire = bytes * (num_ranks - 1), .logical = bytes * num_ranks};
    for (const auto& ceiling : device_->ceilings(bytes, options_.comm_sms)) {
      ExchangeBenchRow row = {.exchange = ceiling.name,
                              .is_ceiling = true,
                              .tokens = tokens,
                              .comm_sms = ceiling.comm_sms,
                              .routing = "balanced",
                              .mode = "eager",
                              .dispatch_megabytes = static_cast<double>(sent.wire) * 1e-6};
      const auto wrong = wrong_words_of(ceiling, [this] { meet(); });
      row.wrong_words = ranks_.reduce(wrong, Reduction::sum);
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
      ceiling.check_status();
      row.dispatch_us = ranks_.slowest(median(samples));
      row.dispatch = bench_bandwidth(sent, num_ranks, row.dispatch_us);
      rows.push_back(std::move(row));
    }
    meet();
  }

  const MpiSession& session_;
  const BenchRanks ranks_;
  const ExchangeBenchOptions options_;
  const bool names_exchanges_;  ///< all that were named must run
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
