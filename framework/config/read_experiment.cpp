#include "framework/config/read_experiment.hpp"

#include <string_view>

#include "framework/config/map_reader.hpp"
#include "framework/config/read_parts.hpp"
#include "framework/config/read_sweep.hpp"
#include "framework/config/yaml_write.hpp"

namespace dovetail {
namespace {

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
                       "fault",
                       "sweep"});
  Experiment experiment;
  experiment.experiment = map.at("experiment").as_text();
  read_model(map.at("model"), experiment.model);
  if (map.has("parallel")) {
    MapReader(map.at("parallel"), {"expert_parallel"})
        .read_int("expert_parallel", experiment.parallel.expert_parallel, 1, kMaxCount);
  }
  read_workload(map.at("workload"), experiment.workload);
  if (map.has("execution")) {
    read_execution(MapReader(map.at("execution"), execution_keys()), experiment.execution);
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
  if (map.has("sweep")) {
    for (const LocatedAxis& axis : read_sweep(map.at("sweep"), root)) {
      experiment.sweep.push_back({axis.key, {}});
      for (const YamlNode& one : axis.values) {
        experiment.sweep.back().values.push_back(write_yaml(one));
      }
    }
  }
  return experiment;
}

}  // namespace dovetail
