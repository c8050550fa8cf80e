#include "framework/config/read_experiment.hpp"

#include <string_view>

#include "framework/config/map_reader.hpp"

namespace dovetail {
namespace {

constexpr std::int64_t kMaxCount = 1'000'000;  // of iterations, requests, steps, ranks, layers
constexpr std::int64_t kMaxTokens = 1'000'000'000;
constexpr std::int64_t kMaxSms = 1024;
constexpr std::int64_t kMaxTimeout = 86'400;
constexpr double kMaxNumber = 1e6;

const std::vector<std::string_view> kExecutionKeys = {"device",
                                                      "dtype",
                                                      "numerics",
                                                      "warmup",
                                                      "iterations",
                                                      "graph",
                                                      "hand_off",
                                                      "exchange",
                                                      "comm_sms",
                                                      "timeout_s"};

WeightsConfig read_weights(const Located& value) {
  const MapReader map(value, {"seed", "checkpoint"});
  if (map.only_key() == "checkpoint") {
    return CheckpointWeights{map.at("checkpoint").as_text("the path of a folder of safetensors")};
  }
  return SeedWeights{map.at("seed").as_unsigned()};
}

std::optional<LayerRange> read_layers(const Located& value) {
  if (value.is_word("all")) {
    return std::nullopt;
  }
  const std::string expected = "all, or a range [first, last) as a list of two whole numbers";
  const auto items = value.items(expected);
  if (items.size() != 2) {
    value.fail(expected);
  }
  const LayerRange range{static_cast<int>(items[0].as_int(0, kMaxCount)),
                         static_cast<int>(items[1].as_int(0, kMaxCount))};
  if (range.first >= range.last) {
    value.fail(expected + ", the first below the last");
  }
  return range;
}

void read_model(const Located& value, ModelConfig& model) {
  const MapReader map(value, {"architecture", "config", "weights", "layers"});
  model.architecture = map.at("architecture").as_text();
  model.config = map.at("config").as_text("the path of a Hugging Face config.json");
  if (map.has("weights")) {
    model.weights = read_weights(map.at("weights"));
  }
  if (map.has("layers")) {
    model.layers = read_layers(map.at("layers"));
  }
}

std::vector<std::int64_t> read_counts(const Located& value, std::int64_t min) {
  std::vector<std::int64_t> counts;
  const auto items = value.items("a list of whole numbers");
  if (items.empty()) {
    fail_at(value.node->mark, value.path + ": an empty list; allowed: at least one whole number");
  }
  counts.reserve(items.size());
  for (const Located& item : items) {
    counts.push_back(item.as_int(min, kMaxTokens));
  }
  return counts;
}

LognormalRequests read_lognormal(const Located& value) {
  const MapReader map(value, {"count", "median", "sigma"});
  return {map.at("count").as_int(1, kMaxCount),
          map.at("median").as_number(1.0, kMaxNumber),
          map.at("sigma").as_number(0.0, 10.0)};
}

RequestsConfig read_requests(const Located& value, WorkPhase phase) {
  const MapReader map(value, {"count", "length", "context_length", "lengths", "lognormal", "file"});
  for (const std::string key : {"lengths", "lognormal", "file"}) {
    if (!map.has(key)) {
      continue;
    }
    if (value.node->entries.size() != 1) {
      value.fail("either count and length, or exactly one of lengths, lognormal, file");
    }
    if (key == "lengths") {
      return RequestLengths{read_counts(map.at(key), 1)};
    }
    if (key == "lognormal") {
      return read_lognormal(map.at(key));
    }
    return RequestFile{map.at(key).as_text("the path of a file of requests")};
  }
  UniformRequests requests;
  requests.count = map.at("count").as_int(1, kMaxCount);
  if (phase != WorkPhase::decode) {
    map.at("length");  // must be there
  }
  map.read_int("length", requests.length, 1, kMaxTokens);
  map.read_int("context_length", requests.context_length, 0, kMaxTokens);
  return requests;
}

RoutingConfig read_routing(const Located& value) {
  if (value.is_word("natural")) {
    return NaturalRouting{};
  }
  if (value.is_word("balanced")) {
    return BalancedRouting{};
  }
  if (value.node->kind != YamlNode::Kind::map) {
    value.fail("one of natural, balanced, {zipf: exponent}, {replay: policy folder}");
  }
  const MapReader map(value, {"zipf", "replay"});
  if (map.only_key() == "zipf") {
    return ZipfRouting{map.at("zipf").as_number(0.0, 100.0)};
  }
  return ReplayRouting{map.at("replay").as_text("the folder of a policy's results")};
}

void read_workload(const Located& value, WorkloadConfig& workload) {
  const MapReader map(value,
                      {"phase",
                       "requests",
                       "seed",
                       "inputs",
                       "positions",
                       "rank_scale",
                       "routing",
                       "context",
                       "steps"});
  map.read_choice("phase", workload.phase);
  workload.requests = read_requests(map.at("requests"), workload.phase);
  map.read_unsigned("seed", workload.seed);
  map.read_choice("inputs", workload.inputs);
  map.read_choice("positions", workload.positions);
  if (map.has("rank_scale")) {
    for (const Located& item : map.at("rank_scale").items("a list of numbers, one a rank")) {
      workload.rank_scale.push_back(item.as_number(0.0, 1000.0));
    }
  }
  if (map.has("routing")) {
    workload.routing = read_routing(map.at("routing"));
  }
  map.read_choice("context", workload.context);
  map.read_int("steps", workload.steps, 1, kMaxCount);
}

void read_execution(const MapReader& map, ExecutionConfig& execution) {
  map.read_choice("device", execution.device);
  if (map.has("dtype")) {
    execution.dtype = *parse<DType>(map.at("dtype").as_name({"float32", "float16", "bfloat16"}));
  }
  map.read_choice("numerics", execution.numerics);
  map.read_int("warmup", execution.warmup, 0, kMaxCount);
  map.read_int("iterations", execution.iterations, 1, kMaxCount);
  map.read_choice("graph", execution.graph);
  map.read_choice("hand_off", execution.hand_off);
  map.read_text("exchange", execution.exchange);
  map.read_int("comm_sms", execution.comm_sms, 1, kMaxSms);
  map.read_int("timeout_s", execution.timeout_s, 1, kMaxTimeout);
}

SplitConfig read_split(const Located& value) {
  if (value.node->kind == YamlNode::Kind::map) {
    const MapReader map(value, {"sizes"});
    return {"sizes", read_counts(map.at("sizes"), 0)};
  }
  const std::string expected = "the name of a split or {sizes: [tokens of each ubatch]}";
  SplitConfig split{value.as_text(expected), {}};
  if (split.kind == "sizes") {
    value.fail(expected);
  }
  return split;
}

void read_schedule(const Located& value, std::string& schedule) {
  if (value.node->kind == YamlNode::Kind::map || value.node->kind == YamlNode::Kind::sequence) {
    fail_at(value.node->mark,
            value.path +
                ": a schedule from a file or from a list of stages is not built yet; "
                "allowed: the name of an overlap policy");
  }
  schedule = value.as_text("the name of an overlap policy");
}

PolicyConfig read_policy(const Located& value, const ExecutionConfig& execution) {
  std::vector<std::string_view> keys = {"name", "schedule", "ubatches", "split", "thresholds"};
  keys.insert(keys.end(), kExecutionKeys.begin(), kExecutionKeys.end());
  const MapReader map(value, keys);
  PolicyConfig policy;
  policy.execution = execution;
  policy.name = map.at("name").as_text();
  policy.schedule = policy.name;
  if (map.has("schedule")) {
    read_schedule(map.at("schedule"), policy.schedule);
  }
  map.read_int("ubatches", policy.ubatches, 0, PolicyConfig::kMaxUbatches);
  if (map.has("split")) {
    policy.split = read_split(map.at("split"));
  }
  if (map.has("thresholds")) {
    const MapReader thresholds(map.at("thresholds"), {"prefill", "decode"});
    thresholds.read_int("prefill", policy.thresholds.prefill, 0, kMaxTokens);
    thresholds.read_int("decode", policy.thresholds.decode, 0, kMaxTokens);
  }
  read_execution(map, policy.execution);
  return policy;
}

void read_verify(const Located& value, VerifyConfig& verify) {
  const MapReader map(value, {"baseline", "mode", "routing"});
  verify.mode = map.at("mode").as_choice<VerifyMode>();
  if (verify.mode != VerifyMode::none) {
    map.at("baseline");  // must be there
  }
  // `baseline: ""` states that there is none.
  if (map.has("baseline") &&
      (verify.mode != VerifyMode::none || !map.at("baseline").node->text.empty())) {
    verify.baseline = map.at("baseline").as_text("the name of a policy");
  }
  map.read_choice("routing", verify.routing);
}

void read_record(const Located& value, RecordConfig& record) {
  const MapReader map(value, {"outputs", "timing", "profiled_iterations"});
  if (map.has("outputs")) {
    record.outputs.clear();
    const auto all = names<RecordedOutput>();
    const auto items = map.at("outputs").items("a list of " + join_names(all));
    for (const Located& item : items) {
      const auto output = item.as_choice<RecordedOutput>();
      if (record.has(output)) {
        fail_at(item.node->mark, item.path + ": '" + item.node->text + "' is there twice");
      }
      record.outputs.push_back(output);
    }
  }
  map.read_choice("timing", record.timing);
  map.read_int("profiled_iterations", record.profiled_iterations, 1, kMaxCount);
}

std::optional<FaultConfig> read_fault(const Located& value) {
  if (value.is_word("none")) {
    return std::nullopt;
  }
  const MapReader map(value, {"kind", "rank", "ubatch", "layer", "phase", "iteration"});
  FaultConfig fault;
  fault.kind = map.at("kind").as_choice<FaultKind>();
  fault.rank = static_cast<int>(map.at("rank").as_int(0, kMaxCount));
  map.read_int("ubatch", fault.ubatch, 0, PolicyConfig::kMaxUbatches - 1);
  map.read_int("layer", fault.layer, -1, kMaxCount);
  map.read_text("phase", fault.phase);
  map.read_int("iteration", fault.iteration, 0, 2 * kMaxCount);
  return fault;
}

}  // namespace

Experiment read_experiment(const YamlNode& root) {
  const MapReader map({&root, ""},
                      {"experiment",
                       "model",
                       "parallel",
                       "workload",
                       "execution",
                       "policies",
                       "verify",
                       "record",
                       "fault"});
  Experiment experiment;
  experiment.experiment = map.at("experiment").as_text();
  read_model(map.at("model"), experiment.model);
  if (map.has("parallel")) {
    MapReader(map.at("parallel"), {"expert_parallel"})
        .read_int("expert_parallel", experiment.parallel.expert_parallel, 1, kMaxCount);
  }
  read_workload(map.at("workload"), experiment.workload);
  if (map.has("execution")) {
    read_execution(MapReader(map.at("execution"), kExecutionKeys), experiment.execution);
  }
  const std::string expected = "a list of at least one policy";
  const auto policies = map.at("policies").items(expected);
  if (policies.empty()) {
    map.at("policies").fail(expected);
  }
  for (const Located& policy : policies) {
    experiment.policies.push_back(read_policy(policy, experiment.execution));
  }
  if (map.has("verify")) {
    read_verify(map.at("verify"), experiment.verify);
  }
  if (map.has("record")) {
    read_record(map.at("record"), experiment.record);
  }
  if (map.has("fault")) {
    experiment.fault = read_fault(map.at("fault"));
  }
  return experiment;
}

}  // namespace dovetail
