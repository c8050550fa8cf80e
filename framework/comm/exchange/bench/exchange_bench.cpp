#include "framework/comm/exchange/bench/exchange_bench.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bucketize.h>
#include <ATen/ops/tensor.h>
#include <c10/core/InferenceMode.h>

#include "framework/base/check.hpp"
#include "framework/base/clock.hpp"
#include "framework/base/log.hpp"
#include "framework/base/registry.hpp"
#include "framework/comm/exchange/bench/bench_device.hpp"
#include "framework/comm/exchange/bench/bench_routing.hpp"
#include "framework/comm/exchange/exchange_table.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/cuda/devices.hpp"
#include "framework/mpi/collectives.hpp"

namespace dovetail {
namespace {

constexpr int kPasses = 10;  ///< of a run
constexpr int kRuns = 4;     ///< the first is not counted
constexpr int kHostPasses = 9;
constexpr std::uint64_t kSeed = 1;

double median(std::vector<double> samples) {
  DOVETAIL_CHECK(!samples.empty(), "no samples");
  const auto middle = samples.begin() + std::ssize(samples) / 2;
  std::nth_element(samples.begin(), middle, samples.end());
  return *middle;
}

double gbs(double bytes, double us) {
  return us > 0 ? bytes * 1e-3 / us : 0.0;
}

/// What the ranks agree on: the device, and what the defaults are there.
ExchangeBenchOptions resolved(const ExchangeBenchOptions& options,
                              const MpiSession& session,
                              const WaitPolicy& wait) {
  auto made = options;
  if (made.device == DeviceKind::automatic) {
    std::int64_t enough[] = {std::ssize(visible_gpus()) >= session.local_size() ? 1 : 0};
    all_reduce(session.world(), enough, Reduction::min, wait);
    made.device = enough[0] == 1 ? DeviceKind::cuda : DeviceKind::cpu;
  }
  const bool on_gpu = made.device == DeviceKind::cuda;
  if (made.exchanges.empty()) {
    for (const auto& row : exchange_table()) {
      if (on_gpu ? row.on_gpu.has_value() : row.on_host.has_value()) {
        made.exchanges.push_back(row.name);
      }
    }
  }
  const auto or_default = [](auto& list, decltype(list) values) {
    if (list.empty()) {
      list = values;
    }
  };
  std::vector<std::int64_t> tokens = on_gpu ? std::vector<std::int64_t>{1, 32, 128, 512, 2048, 8192}
                                            : std::vector<std::int64_t>{1, 32, 128, 512, 2048};
  std::vector<int> comm_sms = {on_gpu ? 8 : 0};
  std::vector<std::string> routings = {"balanced"};
  or_default(made.tokens, tokens);
  or_default(made.comm_sms, comm_sms);
  or_default(made.routings, routings);
  made.hidden = made.hidden > 0 ? made.hidden : on_gpu ? 7168 : 512;
  made.num_experts = made.num_experts > 0 ? made.num_experts : on_gpu ? 256 : 64;
  return made;
}

void check_options(const ExchangeBenchOptions& options, int num_ranks) {
  const bool on_gpu = options.device == DeviceKind::cuda;
  const auto require = [](bool holds, const std::string& what) {
    if (!holds) {
      throw InputError("bench exchange: " + what);
    }
  };
  for (const auto& name : options.exchanges) {
    require(name != "auto", "auto is no exchange of its own");
    choose_exchange(name, on_gpu);
    check_top_k(name, on_gpu, options.top_k);
  }
  for (const auto& name : options.routings) {
    bench_routing(name);
  }
  for (const auto tokens : options.tokens) {
    require(tokens >= 1 && tokens <= 1 << 20, "tokens; allowed: 1 to 1048576");
  }
  for (const int comm_sms : options.comm_sms) {
    require(!on_gpu || (comm_sms >= 1 && comm_sms <= 64 &&
                        std::has_single_bit(static_cast<unsigned>(comm_sms))),
            "comm SMs; allowed: 1, 2, 4, 8, 16, 32, 64");
  }
  require(options.hidden >= 1 && options.hidden <= 1 << 16, "hidden; allowed: 1 to 65536");
  require(options.num_experts % num_ranks == 0,
          std::to_string(options.num_experts) + " experts over " + std::to_string(num_ranks) +
              " ranks; allowed: a multiple of the ranks");
  require(options.top_k >= 1 && options.top_k <= std::min(16, options.num_experts),
          "top k; allowed: 1 to 16, at most the number of experts");
}

/// Tokens of a rank whose sums are exact in every dtype: elements 0 to 3 that name rank, token and
/// column, weights 0.5 and 1.
struct BenchTokens {
  at::Tensor hidden;
  at::Tensor expert_ids;
  at::Tensor weights;

  RoutedTokens routed() const { return {hidden, expert_ids, weights}; }
};

BenchTokens make_tokens(BenchRouting routing,
                        const ExchangeShape& shape,
                        std::int64_t tokens,
                        std::uint64_t seed,
                        at::Device device) {
  const auto experts = bench_experts(routing, shape, shape.ep_rank, tokens, seed);
  BenchTokens made;
  made.expert_ids =
      at::tensor(experts, at::kLong).view({tokens, shape.top_k}).to(device).contiguous();
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  const auto rows = at::arange(tokens, options).unsqueeze(1);
  const auto columns = at::arange(shape.hidden, options).unsqueeze(0);
  made.hidden = (rows * 3 + columns * (rows + shape.ep_rank + 1) + static_cast<std::int64_t>(seed))
                    .bitwise_and(3)
                    .to(shape.dtype)
                    .contiguous();
  const auto choices = at::arange(shape.top_k, options).unsqueeze(0);
  made.weights = ((rows + choices).bitwise_and(1).to(at::kFloat) + 1).mul(0.5).contiguous();
  return made;
}

/// What an expert multiplies by in the pass that is checked: 1 or 2.
at::Tensor factor_of(const at::Tensor& expert_ids) {
  return expert_ids.bitwise_and(1).to(at::kFloat) + 1;
}

/// Elements of `output` that are not as they should be; `scaled`: by experts that multiply.
std::int64_t count_wrong(const BenchTokens& in, const at::Tensor& output, bool scaled) {
  auto weights = in.weights * in.expert_ids.ge(0);
  if (scaled) {
    weights = weights * factor_of(in.expert_ids);
  }
  const auto wanted =
      (in.hidden.to(at::kFloat) * weights.sum(1, /*keepdim=*/true)).to(output.scalar_type());
  return output.ne(wanted).sum().item<std::int64_t>();
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
    ExchangeBench bench = {.device = device_->name(),
                           .num_ranks = session_.world_size(),
                           .hidden = options_.hidden,
                           .num_experts = options_.num_experts,
                           .top_k = options_.top_k,
                           .dtype = c10::toString(dtype()),
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
    auto in = make_tokens(routing, shape(), row.tokens, kSeed, device_->device());
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
    const auto other = make_tokens(routing, shape(), row.tokens, kSeed + 1, device_->device());
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
    const auto factors = factor_of(local + first).to(dtype()).unsqueeze(1);
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
  const auto made = resolved(options, session, wait);
  check_options(made, session.world_size());
  return Bench(session, made, !options.exchanges.empty(), wait).run();
}

}  // namespace dovetail
