// An experiment as plain structs: the whole experiment file, and the only place where its keys and
// their defaults live. Each struct lists its keys beside its fields: `list_keys` gets a KeyList
// (key_list.hpp), and is a template so that users of the fields need not include that. load.hpp
// reads an experiment, validate.hpp checks it, dump.hpp writes it.
#pragma once

#include <string>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/config/choices.hpp"
#include "framework/config/execution_config.hpp"
#include "framework/config/fault_config.hpp"
#include "framework/config/model_config.hpp"
#include "framework/config/policy_config.hpp"
#include "framework/config/workload_config.hpp"

namespace dovetail {

struct VerifyConfig {
  std::string baseline;  ///< name of a policy; required unless mode is none
  VerifyMode mode = VerifyMode::none;
  VerifyRouting routing = VerifyRouting::natural;

  friend bool operator==(const VerifyConfig&, const VerifyConfig&) = default;

  static void read_baseline(const MapReader& map, VerifyConfig& verify);
  static std::string write_baseline(const VerifyConfig& verify);

  template <class Keys>
  static void list_keys(Keys& keys) {
    keys.coded("baseline",
               read_baseline,
               write_baseline,
               "the name of a policy",
               {"some_policy"},
               "The policy that the others are compared with.")
        .read_if_absent()
        .default_is("required unless `mode` is `none`");
    keys.one_of(
            "mode",
            &VerifyConfig::mode,
            "How the outputs are compared. Without `verify`, or with `verify: none`, nothing is "
            "verified.")
        .required();
    keys.one_of("routing",
                &VerifyConfig::routing,
                "`replay`: the other policies take the experts of the baseline, which must record "
                "`routing`.");
  }
};

struct RecordConfig {
  std::vector<RecordedOutput> outputs = {RecordedOutput::hidden, RecordedOutput::logits};
  TimingDetail timing = TimingDetail::steps;
  int profiled_iterations = 4;  ///< with timing ops: iterations behind timed ones

  /// True if `output` is among the outputs.
  bool has(RecordedOutput output) const {
    for (const RecordedOutput one : outputs) {
      if (one == output) {
        return true;
      }
    }
    return false;
  }

  friend bool operator==(const RecordConfig&, const RecordConfig&) = default;

  static void read_outputs(const MapReader& map, RecordConfig& record);
  static std::string write_outputs(const RecordConfig& record);

  template <class Keys>
  static void list_keys(Keys& keys) {
    keys.coded("outputs",
               read_outputs,
               write_outputs,
               "list of `hidden`, `logits`, `logits_all`, `layers`, `routing`, `kv`",
               {"[]", "[kv, routing, layers, logits_all, logits, hidden]"},
               "The tensors that are written: see results/README.md.");
    keys.one_of("timing",
                &RecordConfig::timing,
                "`ops`: also profiled iterations, some behind each round. `steps`: none.");
    keys.whole("profiled_iterations",
               &RecordConfig::profiled_iterations,
               1,
               Limits::kCount,
               "The number of profiled iterations with `ops`.");
  }
};

/// `sweep: {KEY: [value, ...]}`: one axis. The values are YAML, as --set takes them; under the key
/// `policies` each value is the name of a policy of the experiment, or a list of names.
struct SweepAxis {
  std::string key;
  std::vector<std::string> values;

  friend bool operator==(const SweepAxis&, const SweepAxis&) = default;
};

struct Experiment {
  std::string experiment;  ///< required; name, part of the result folder's name
  ModelConfig model;       ///< required
  ParallelConfig parallel;
  WorkloadConfig workload;  ///< required
  ExecutionConfig execution;
  std::vector<PolicyConfig> policies;  ///< required, at least one
  VerifyConfig verify;
  RecordConfig record;
  std::vector<FaultConfig> faults;  ///< `fault:`; at most one in a policy
  std::vector<SweepAxis> sweep;     ///< every combination of the axes is a run; empty = one run
  UnchangedPolicies sweep_unchanged = UnchangedPolicies::measure_once;

  friend bool operator==(const Experiment&, const Experiment&) = default;

  static void read_policies(const MapReader& map, Experiment& experiment);
  static std::string write_policies(const Experiment& experiment);
  static void read_sweep(const MapReader& map, Experiment& experiment);
  static std::string write_sweep(const Experiment& experiment);
  static void read_unchanged(const MapReader& map, Experiment& experiment);
  static std::string write_unchanged(const Experiment& experiment);

  template <class Keys>
  static void list_keys(Keys& keys) {
    using E = Experiment;
    constexpr auto style = Keys::Style::a_line_a_key;
    keys.text("experiment",
              &E::experiment,
              "text",
              "The name of the experiment and of its result folders.")
        .required()
        .holds("a name");
    keys.map("model", &E::model, style).required();
    keys.map("parallel", &E::parallel, style);
    keys.map("workload", &E::workload, style).required();
    keys.map("execution", &E::execution, style);
    keys.list("policies", &E::policies, read_policies, write_policies).required();
    keys.map_or_none("verify", &E::verify, style);
    keys.map("record", &E::record, style);
    keys.maps(
        "fault",
        &E::faults,
        "Breaks a run on purpose, a policy at most once: see Faults in experiments/README.md.");
    keys.coded("sweep",
               read_sweep,
               write_sweep,
               "`none` or `{KEY: [value, ...], ...}`",
               {"{execution.warmup: [1, 2]}"},
               "The axes of a sweep: see Sweeps in experiments/README.md.")
        .default_is("`none`")
        .dumped_if([](const E& value) { return !value.sweep.empty(); });
    keys.coded("sweep_unchanged",
               read_unchanged,
               write_unchanged,
               "`measure_once`, `measure_again`",
               {"measure_again"},
               "What a point of a sweep does with a policy that no axis has changed since an "
               "earlier point: `measure_once` takes what was measured there.")
        .default_is("`measure_once`")
        .dumped_if([](const E& value) {
          return value.sweep_unchanged != UnchangedPolicies::measure_once;
        });
  }
};

}  // namespace dovetail
