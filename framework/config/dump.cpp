#include "framework/config/dump.hpp"

#include <type_traits>

#include "framework/config/yaml_text.hpp"

namespace dovetail {
namespace {

template <class T>
std::string write(const T& value) {
  if constexpr (std::is_enum_v<T>) {
    return std::string(to_string(value));
  } else if constexpr (std::is_integral_v<T>) {
    return std::to_string(value);
  } else if constexpr (std::is_floating_point_v<T>) {
    return write_number(value);
  } else {
    return write_text(value);
  }
}

template <class T>
std::string write(const std::vector<T>& values) {
  std::string text;
  for (const T& value : values) {
    text += (text.empty() ? "" : ", ") + write(value);
  }
  return "[" + text + "]";
}

/// One function for each alternative of the file's variants.
struct WriteAlternative {
  WorkPhase phase = WorkPhase::prefill;

  std::string operator()(const SeedWeights& weights) const {
    return "{seed: " + write(weights.seed) + "}";
  }

  std::string operator()(const CheckpointWeights& weights) const {
    return "{checkpoint: " + write(weights.folder) + "}";
  }

  std::string operator()(const UniformRequests& requests) const {
    return "{count: " + write(requests.count) + ", length: " + write(requests.length) +
           ", context_length: " + write(requests.context_length) + "}";
  }

  std::string operator()(const RequestLengths& requests) const {
    const std::string contexts = requests.context_lengths.empty()
                                     ? ""
                                     : ", context_lengths: " + write(requests.context_lengths);
    return "{lengths: " + write(requests.lengths) + contexts + "}";
  }

  std::string operator()(const LognormalRequests& requests) const {
    const std::string context =
        phase == WorkPhase::decode ? "" : ", context_length: " + write(requests.context_length);
    return "{lognormal: {count: " + write(requests.count) + ", median: " + write(requests.median) +
           ", sigma: " + write(requests.sigma) + ", max_length: " + write(requests.max_length) +
           context + "}}";
  }

  std::string operator()(const RequestFile& requests) const {
    return "{file: " + write(requests.path) + "}";
  }

  std::string operator()(const NaturalRouting& /*routing*/) const { return "natural"; }

  std::string operator()(const BalancedRouting& /*routing*/) const { return "balanced"; }

  std::string operator()(const ZipfRouting& routing) const {
    return "{zipf: " + write(routing.exponent) + "}";
  }

  std::string operator()(const ReplayRouting& routing) const {
    return "{replay: " + write(routing.folder) + "}";
  }
};

/// Lines "key: value" of one map, all with the same indent.
class Lines {
 public:
  explicit Lines(std::string indent) : indent_(std::move(indent)) {}

  template <class T>
  void add(const std::string& key, const T& value) {
    add_raw(key, write(value));
  }

  /// `value` is YAML already.
  void add_raw(const std::string& key, const std::string& value) {
    text_ += indent_ + key + ": " + value + "\n";
  }

  const std::string& text() const { return text_; }

 private:
  std::string indent_;
  std::string text_;
};

std::string dump_model(const ModelConfig& model) {
  Lines lines("  ");
  lines.add("architecture", model.architecture);
  lines.add("config", model.config);
  lines.add_raw("weights", std::visit(WriteAlternative{}, model.weights));
  lines.add_raw("layers",
                model.layers ? write(std::vector{model.layers->first, model.layers->last}) : "all");
  return "model:\n" + lines.text();
}

std::string dump_requests(const WorkloadConfig& workload) {
  std::string text;
  for (const RequestGroup& group : workload.requests) {
    text += (text.empty() ? "" : ", ") + std::visit(WriteAlternative{workload.phase}, group);
  }
  return workload.requests.size() == 1 ? text : "[" + text + "]";
}

std::string dump_workload(const WorkloadConfig& workload) {
  Lines lines("  ");
  lines.add("phase", workload.phase);
  lines.add_raw("requests", dump_requests(workload));
  lines.add("seed", workload.seed);
  lines.add_raw("inputs",
                workload.inputs.kind == InputKind::hidden
                    ? "{hidden: " + write(workload.inputs.folder) + "}"
                    : write(workload.inputs.kind));
  lines.add("positions", workload.positions);
  lines.add("rank_scale", workload.rank_scale);
  lines.add_raw("routing", std::visit(WriteAlternative{}, workload.routing));
  lines.add("context", workload.context);
  lines.add("steps", workload.steps);
  return "workload:\n" + lines.text();
}

void dump_execution(const ExecutionConfig& execution, Lines& lines) {
  lines.add("device", execution.device);
  lines.add("dtype", execution.dtype);
  lines.add("numerics", execution.numerics);
  lines.add("warmup", execution.warmup);
  lines.add("iterations", execution.iterations);
  lines.add("graph", execution.graph);
  lines.add("hand_off", execution.hand_off);
  lines.add("exchange", execution.exchange);
  lines.add("comm_sms", execution.comm_sms);
  lines.add("padded_capacity", execution.padded_capacity);
  lines.add("timeout_s", execution.timeout_s);
  lines.add("page_size", execution.page_size);
  lines.add("cache_tokens", execution.cache_tokens);
  lines.add_raw("link",
                execution.link ? "{latency_us: " + write(execution.link->latency_us) +
                                     ", gbytes_per_s: " + write(execution.link->gbytes_per_s) + "}"
                               : "none");
}

std::string dump_stage_list(const StageList& list) {
  std::string stages;
  for (const auto& stage : list) {
    std::string phases;
    for (const StagePhase& item : stage) {
      phases += (phases.empty() ? "" : ", ") +
                (item.lane.empty() ? write(item.phase)
                                   : "{" + write(item.phase) + ": " + write(item.lane) + "}");
    }
    stages += (stages.empty() ? "[" : ", [") + phases + "]";
  }
  return "[" + stages + "]";
}

std::string dump_stages(const StagesConfig& stages) {
  if (!stages.preset.empty()) {
    return write(stages.preset);
  }
  return "{moe: " + dump_stage_list(stages.moe) + ", dense: " + dump_stage_list(stages.dense) +
         ", delta: " + write(stages.delta) + "}";
}

std::string dump_policy(const PolicyConfig& policy) {
  Lines lines("    ");
  lines.add("schedule", policy.schedule);
  lines.add("ubatches", policy.ubatches);
  if (policy.stages) {
    lines.add_raw("stages", dump_stages(*policy.stages));
  }
  // Keys of one overlap policy only; validate refuses them in others.
  if (policy.schedule == "auto" || policy.candidate != PolicyConfig().candidate) {
    lines.add("candidate", policy.candidate);
  }
  if (!policy.table.empty()) {
    lines.add("table", policy.table);
  }
  lines.add_raw("split",
                policy.split.kind == "sizes" ? "{sizes: " + write(policy.split.sizes) + "}"
                                             : write(policy.split.kind));
  lines.add_raw("thresholds",
                "{prefill: " + write(policy.thresholds.prefill) +
                    ", decode: " + write(policy.thresholds.decode) + "}");
  dump_execution(policy.execution, lines);
  return "  - name: " + write(policy.name) + "\n" + lines.text();
}

std::string dump_verify(const VerifyConfig& verify) {
  Lines lines("  ");
  lines.add("baseline", verify.baseline);
  lines.add("mode", verify.mode);
  lines.add("routing", verify.routing);
  return "verify:\n" + lines.text();
}

std::string dump_record(const RecordConfig& record) {
  Lines lines("  ");
  lines.add("outputs", record.outputs);
  lines.add("timing", record.timing);
  lines.add("profiled_iterations", record.profiled_iterations);
  return "record:\n" + lines.text();
}

std::string dump_fault(const std::optional<FaultConfig>& fault) {
  if (!fault) {
    return "fault: none\n";
  }
  Lines lines("  ");
  lines.add("kind", fault->kind);
  lines.add("rank", fault->rank);
  lines.add("ubatch", fault->ubatch);
  lines.add("layer", fault->layer);
  lines.add("phase", fault->phase);
  lines.add("iteration", fault->iteration);
  return "fault:\n" + lines.text();
}

std::string dump_sweep(const std::vector<SweepAxis>& axes) {
  std::string text = "sweep:\n";
  for (const SweepAxis& axis : axes) {
    std::string values;
    for (const std::string& value : axis.values) {
      values += (values.empty() ? "" : ", ") + value;  // YAML already
    }
    text += "  " + write_text(axis.key) + ": [" + values + "]\n";
  }
  return text;
}

/// As write_number, without ".0".
std::string write_short(double value) {
  auto text = write_number(value);
  return text.ends_with(".0") ? text.substr(0, text.size() - 2) : text;
}

}  // namespace

std::string describe_link(const std::optional<LinkConfig>& link, int expert_parallel) {
  return link && expert_parallel > 1 ? "emulated: " + write_short(link->latency_us) + " us, " +
                                           write_short(link->gbytes_per_s) + " GB/s"
                                     : "none";
}

std::string dump(const Experiment& experiment) {
  Lines execution("  ");
  dump_execution(experiment.execution, execution);
  std::string text = "# Resolved experiment: every key is stated.\n";
  text += "experiment: " + write(experiment.experiment) + "\n";
  text += dump_model(experiment.model);
  text += "parallel:\n  expert_parallel: " + write(experiment.parallel.expert_parallel) + "\n";
  text += dump_workload(experiment.workload);
  text += "execution:\n" + execution.text();
  text += "policies:\n";
  for (const PolicyConfig& policy : experiment.policies) {
    text += dump_policy(policy);
  }
  text += dump_verify(experiment.verify);
  text += dump_record(experiment.record);
  text += dump_fault(experiment.fault);
  if (!experiment.sweep.empty()) {
    text += dump_sweep(experiment.sweep);
  }
  return text;
}

}  // namespace dovetail
