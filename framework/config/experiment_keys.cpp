// The values of an experiment that are no plain ones, outside of its larger parts: policies, the
// baseline, recorded outputs, sweep.
#include "framework/config/experiment.hpp"
#include "framework/config/key_table.hpp"
#include "framework/config/read_sweep.hpp"
#include "framework/config/yaml_write.hpp"

namespace dovetail {

/// `baseline: ""` states that there is none.
void VerifyConfig::read_baseline(const MapReader& map, VerifyConfig& verify) {
  const Located mode = map.at("mode", join_names(names<VerifyMode>()));  // read behind this key
  const bool is_needed = mode.as_choice<VerifyMode>() != VerifyMode::none;
  if (is_needed || (map.has("baseline") && !map.at("baseline").node->text.empty())) {
    const std::string expected = "the name of a policy";
    verify.baseline = map.at("baseline", expected).as_text(expected);
  }
}

std::string VerifyConfig::write_baseline(const VerifyConfig& verify) {
  return write_value(verify.baseline);
}

void RecordConfig::read_outputs(const MapReader& map, RecordConfig& record) {
  record.outputs.clear();
  const std::string expected = "a list of " + join_names(names<RecordedOutput>());
  for (const Located& item : map.at("outputs").items(expected)) {
    const auto output = item.as_choice<RecordedOutput>();
    if (record.has(output)) {
      fail_at(item.node->mark, item.path + ": '" + item.node->text + "' is there twice");
    }
    record.outputs.push_back(output);
  }
}

std::string RecordConfig::write_outputs(const RecordConfig& record) {
  return write_value(record.outputs);
}

/// What a policy does not state of its execution is the experiment's, which is read before.
void Experiment::read_policies(const MapReader& map, Experiment& experiment) {
  const std::string expected = "a list of at least one policy";
  const Located list = map.at("policies");
  for (const Located& value : list.items(expected)) {
    PolicyConfig& policy = experiment.policies.emplace_back();
    policy.execution = experiment.execution;
    keys_of<PolicyConfig>().read(value, policy);
    if (policy.schedule.empty()) {
      policy.schedule = policy.name;
    }
  }
  if (experiment.policies.empty()) {
    list.fail(expected);
  }
}

/// A policy states whatever its experiment states of the execution: it may have another value. The
/// control is no policy of the file: `execution.control` makes it.
std::string Experiment::write_policies(const Experiment& experiment) {
  const auto common = keys_of<ExecutionConfig>().dumped_names(experiment.execution);
  std::string text = "\n";
  for (const PolicyConfig& policy : experiment.policies) {
    if (policy.name == kControlPolicy) {
      continue;
    }
    auto names = keys_of<PolicyConfig>().dumped_names(policy);
    names.insert(names.end(), common.begin(), common.end());
    std::string lines = keys_of<PolicyConfig>().write_lines(policy, "    ", names);
    lines[2] = '-';
    text += lines;
  }
  return text;
}

void Experiment::read_sweep(const MapReader& map, Experiment& experiment) {
  for (const LocatedAxis& axis : dovetail::read_sweep(map.at("sweep"), *map.value().node)) {
    experiment.sweep.push_back({axis.key, {}});
    for (const YamlNode& one : axis.values) {
      experiment.sweep.back().values.push_back(write_yaml(one));
    }
  }
}

std::string Experiment::write_sweep(const Experiment& experiment) {
  std::string text = "\n";
  for (const SweepAxis& axis : experiment.sweep) {
    text += "  " + write_text(axis.key) + ": [" + join_names(axis.values) + "]\n";  // YAML already
  }
  return text;
}

void Experiment::read_unchanged(const MapReader& map, Experiment& experiment) {
  experiment.sweep_unchanged = map.at("sweep_unchanged").as_choice<UnchangedPolicies>();
}

std::string Experiment::write_unchanged(const Experiment& experiment) {
  return write_value(experiment.sweep_unchanged);
}

}  // namespace dovetail
