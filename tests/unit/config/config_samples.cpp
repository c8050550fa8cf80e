#include "tests/unit/config/config_samples.hpp"

#include <bit>
#include <cmath>
#include <span>

#include <gtest/gtest.h>

namespace dovetail::testing {
namespace {

/// Draws random members of an experiment.
class Draw {
 public:
  explicit Draw(std::mt19937_64& random) : random_(random) {}

  std::int64_t whole(std::int64_t min, std::int64_t max) {
    return std::uniform_int_distribution<std::int64_t>(min, max)(random_);
  }

  int small(int min, int max) { return static_cast<int>(whole(min, max)); }

  bool coin() { return whole(0, 1) == 1; }

  /// Any finite double from min to max, of all magnitudes and with all bits in use.
  double number(double min, double max) {
    for (;;) {
      const double value = std::bit_cast<double>(random_());
      if (std::isfinite(value) && value >= min && value <= max) {
        return value;
      }
    }
  }

  /// Text that tempts a YAML reader.
  std::string text() {
    static const std::vector<std::string> parts = {
        "a",   "B",  "7",    "_",  "-",    ".",    "/",    " ",    ": ",  "#",  " #", "\"",
        "'",   "\\", "{",    "}",  "[",    "]",    ",",    "&",    "*",   "!",  "|",  ">",
        "%",   "@",  "`",    "?",  "null", "true", "0x1f", "1e5",  "~",   "ä",  "日", "😀",
        "---", "<<", "none", "==", "...",  "inf",  "nan",  "0777", "\\n", "\\", "$",  "\u0085"};
    std::string result;
    const auto num_parts = whole(1, 6);
    for (int i = 0; i < num_parts; ++i) {
      result += parts[static_cast<std::size_t>(whole(0, std::ssize(parts) - 1))];
    }
    return result;
  }

  std::vector<std::int64_t> counts(std::int64_t min) {
    std::vector<std::int64_t> result(static_cast<std::size_t>(whole(1, 9)));
    for (std::int64_t& value : result) {
      value = whole(min, coin() ? 1'000'000'000 : 5);
    }
    return result;
  }

  template <class Enum>
  Enum choice() {
    const auto all = names<Enum>();
    return *parse<Enum>(all[static_cast<std::size_t>(whole(0, std::ssize(all) - 1))]);
  }

  WeightsConfig weights() {
    return coin() ? WeightsConfig(SeedWeights{random_()})
                  : WeightsConfig(CheckpointWeights{text()});
  }

  RequestGroup group(WorkPhase phase) {
    switch (whole(0, 2)) {
      case 0:
        return UniformRequests{whole(1, 1'000'000), whole(1, 1'000'000'000), whole(0, 3)};
      case 1: {
        RequestLengths result{counts(1), {}};
        for (std::size_t left = coin() ? result.lengths.size() : 0; left > 0; --left) {
          result.context_lengths.push_back(whole(0, coin() ? 1'000'000'000 : 5));
        }
        return result;
      }
      default:
        return LognormalRequests{whole(1, 1'000'000),
                                 number(1.0, 1e6),
                                 number(0.0, 10.0),
                                 whole(0, 9),
                                 phase == WorkPhase::decode ? 0 : whole(0, 1'000'000'000)};
    }
  }

  RequestsConfig requests(WorkPhase phase) {
    if (whole(0, 5) == 0) {
      return {RequestFile{text()}};
    }
    RequestsConfig result;
    for (auto left = coin() ? 1 : whole(1, 4); left > 0; --left) {
      result.push_back(group(phase));
    }
    return result;
  }

  InputsConfig inputs() {
    const auto kind = choice<InputKind>();
    return {kind, kind == InputKind::hidden ? text() : ""};
  }

  RoutingConfig routing() {
    switch (whole(0, 3)) {
      case 0:
        return NaturalRouting{};
      case 1:
        return BalancedRouting{};
      case 2:
        return ZipfRouting{number(0.0, 100.0)};
      default:
        return ReplayRouting{text()};
    }
  }

  ExecutionConfig execution() {
    static constexpr DType dtypes[] = {DType::float32, DType::float16, DType::bfloat16};
    return {.device = choice<DeviceKind>(),
            .dtype = dtypes[whole(0, 2)],
            .numerics = choice<Numerics>(),
            .warmup = small(0, 1'000'000),
            .iterations = small(1, 1'000'000),
            .graph = choice<GraphMode>(),
            .graph_sizes =
                coin() ? std::nullopt
                       : std::optional(std::vector<std::int64_t>{whole(1, 9), whole(10, 999)}),
            .hand_off = choice<HandOff>(),
            .exchange = text(),
            .exchange_table = coin() ? "none" : text(),
            .comm_sms = coin() ? std::nullopt : std::optional(small(1, 1024)),
            .sm_partition = choice<SmPartitionKind>(),
            .padded_capacity = number(1e-3, 1.0),
            .timeout_s = small(1, 86'400),
            .page_size = small(1, 65'536),
            .cache_tokens = whole(0, 1'000'000'000),
            .link = coin() ? std::nullopt
                           : std::optional(LinkConfig{number(0.0, 1e6), number(1e-3, 1e4)})};
  }

  PolicyConfig policy() {
    PolicyConfig result;
    result.name = text();
    result.schedule = coin() ? result.name : text();
    result.ubatches = small(0, 8);
    if (coin()) {
      result.split = {"sizes", counts(0)};
    } else if (coin()) {
      result.split.kind = "request";
    }
    result.thresholds = {whole(0, 9), whole(0, 1'000'000'000)};
    result.execution = execution();
    return result;
  }

  RecordConfig record() {
    RecordConfig result;
    result.outputs.clear();
    for (const auto name : names<RecordedOutput>()) {
      if (coin()) {
        result.outputs.push_back(*parse<RecordedOutput>(name));
      }
    }
    result.timing = choice<TimingDetail>();
    result.profiled_iterations = small(1, 1'000'000);
    return result;
  }

  FaultConfig fault() {
    FaultConfig result = {.kind = choice<FaultKind>(),
                          .rank = small(0, 1'000'000),
                          .ubatch = small(0, 7),
                          .layer = small(-1, 60),
                          .phase = text(),
                          .policy = coin() ? text() : ""};
    if (result.kind == FaultKind::delay) {
      result.delay_us = small(1, 1'000'000);
      return result;
    }
    result.iteration = small(0, 2'000'000);
    result.token = small(0, 1'000'000'000);
    result.choice = small(-1, 1'000'000);
    result.element = small(-1, 1'000'000);
    return result;
  }

 private:
  std::mt19937_64& random_;
};

}  // namespace

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << "no '" << from << "' to replace";
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

Capabilities host_capabilities() {
  return {
      .architectures = {"qwen3_moe"},
      .policies = {{"sequential", 1, 1, 1}, {"shared_expert", 1, 1, 1}, {"dual_batch", 2, 8, 2}},
      .splits = {"token_midpoint", "request", "sizes"},
      .exchanges = {{"gather", true, true, GraphMode::full},
                    {"ragged", true, true, GraphMode::piecewise},
                    {"padded", false, true, GraphMode::full},
                    {"symmetric", false, true, GraphMode::full},
                    {"copy_engine", false, false, GraphMode::none, false}},
      .phases = {"embed", "attention", "experts", "output"},
      .cuda = false};
}

Experiment random_experiment(std::mt19937_64& random) {
  Draw draw(random);
  Experiment result;
  result.experiment = draw.text();
  result.model = {draw.text(), draw.text(), draw.weights(), AllLayers{}};
  if (draw.coin()) {
    const int first = draw.small(0, 99);
    result.model.layers = LayerRange{first, first + draw.small(1, 9)};
  } else if (draw.coin()) {
    result.model.layers = FirstLayers{draw.small(1, 99)};
  }
  result.parallel.expert_parallel = draw.small(1, 1'000'000);
  result.workload.phase = draw.choice<WorkPhase>();
  result.workload.requests = draw.requests(result.workload.phase);
  result.workload.seed = random();
  result.workload.inputs = draw.inputs();
  result.workload.positions = draw.choice<PositionKind>();
  for (auto left = draw.whole(0, 4); left > 0; --left) {
    result.workload.rank_scale.push_back(draw.coin() ? draw.number(0.0, 1000.0) : 0.0);
  }
  result.workload.routing = draw.routing();
  result.workload.context = draw.choice<ContextFill>();
  result.workload.steps = draw.small(1, 1'000'000);
  result.execution = draw.execution();
  for (auto left = draw.whole(1, 4); left > 0; --left) {
    result.policies.push_back(draw.policy());
  }
  result.verify = {draw.text(), draw.choice<VerifyMode>(), draw.choice<VerifyRouting>()};
  if (result.verify.mode == VerifyMode::none && draw.coin()) {
    result.verify.baseline.clear();
  }
  result.record = draw.record();
  for (auto left = draw.coin() ? draw.whole(1, 3) : 0; left > 0; --left) {
    result.faults.push_back(draw.fault());
  }
  return result;
}

}  // namespace dovetail::testing
