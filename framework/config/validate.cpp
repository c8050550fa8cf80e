#include "framework/config/validate.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <variant>

#include "framework/base/registry.hpp"
#include "framework/config/yaml_text.hpp"

namespace dovetail {
namespace {

// Named by the design, not built yet: refused by name rather than as unknown.
constexpr std::array<std::string_view, 2> kUnbuiltSchedules = {"staged", "auto"};
constexpr std::array<std::string_view, 3> kUnbuiltExchanges = {
    "padded", "symmetric", "copy_engine"};
constexpr std::array<std::string_view, 1> kUnbuiltSplits = {"balanced"};

template <class Range>
bool contains(const Range& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// Letters, digits and `extra`, not beginning with one of `extra`, at most 64.
bool is_folder_name(std::string_view name, std::string_view extra) {
  const auto is_alphanumeric = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  const auto is_allowed = [&](char c) {
    return is_alphanumeric(c) || extra.find(c) != std::string_view::npos;
  };
  return !name.empty() && name.size() <= 64 && is_alphanumeric(name.front()) &&
         std::all_of(name.begin(), name.end(), is_allowed);
}

class Validator {
 public:
  Validator(const LoadedExperiment& loaded,
            const Capabilities& capabilities,
            std::optional<int> num_ranks)
      : loaded_(loaded),
        experiment_(loaded.experiment),
        capabilities_(capabilities),
        num_ranks_(num_ranks) {}

  void check_all() const {
    check_model();
    check_grid();
    check_workload();
    check_execution("execution", experiment_.execution);
    for (std::size_t i = 0; i < experiment_.policies.size(); ++i) {
      check_policy("policies[" + std::to_string(i) + "]", experiment_.policies[i], i);
    }
    check_verify();
    check_fault();
  }

 private:
  [[noreturn]] void fail(const std::string& path, const std::string& message) const {
    fail_at(find_mark(loaded_, path), path + ": " + message);
  }

  void refuse_if(bool unbuilt,
                 const std::string& path,
                 const std::string& thing,
                 const std::string& allowed) const {
    if (unbuilt) {
      fail(path, thing + " is not built yet; allowed: " + allowed);
    }
  }

  template <class Unbuilt>
  void check_name(const std::string& path,
                  const std::string& kind,
                  const std::string& name,
                  const std::vector<std::string>& known,
                  const Unbuilt& unbuilt) const {
    if (contains(known, name)) {
      return;
    }
    const std::string quoted = kind + " '" + printable(name) + "'";
    refuse_if(contains(unbuilt, name), path, quoted, join_names(known));
    fail(path, "unknown " + quoted + "; known: " + join_names(known));
  }

  void check_model() const {
    if (!is_folder_name(experiment_.experiment, "_-.")) {
      fail("experiment",
           "'" + printable(experiment_.experiment) +
               "' names no folder; allowed: up to 64 letters, digits, '_', '-' and '.', the first "
               "a letter or digit");
    }
    check_name("model.architecture",
               "architecture",
               experiment_.model.architecture,
               capabilities_.architectures,
               std::array<std::string_view, 0>{});
    refuse_if(experiment_.model.layers.has_value(), "model.layers", "a range of layers", "all");
  }

  void check_grid() const {
    const int expert_parallel = experiment_.parallel.expert_parallel;
    if (num_ranks_ && *num_ranks_ % expert_parallel != 0) {
      fail("parallel.expert_parallel",
           "the world of " + std::to_string(*num_ranks_) + " ranks is no multiple of " +
               std::to_string(expert_parallel));
    }
  }

  void check_workload() const { check_rank_scale(); }

  void check_rank_scale() const {
    const std::vector<double>& scale = experiment_.workload.rank_scale;
    if (scale.empty()) {
      return;
    }
    const auto num_ranks = static_cast<std::size_t>(num_ranks_.value_or(0));
    if (scale.size() < num_ranks) {
      fail("workload.rank_scale",
           std::to_string(scale.size()) + " values for a world of " + std::to_string(num_ranks) +
               " ranks; allowed: one a rank, or none for 1 everywhere");
    }
    const auto end = num_ranks_ ? scale.begin() + *num_ranks_ : scale.end();
    if (std::all_of(scale.begin(), end, [](double factor) { return factor == 0.0; })) {
      fail("workload.rank_scale", "every rank is idle; allowed: at least one above 0");
    }
  }

  void check_execution(const std::string& path, const ExecutionConfig& execution) const {
    refuse_if(execution.device == DeviceKind::cuda && !capabilities_.cuda,
              path + ".device",
              "cuda",
              "auto, cpu");
    refuse_if(execution.numerics != Numerics::fast, path + ".numerics", "batch_invariant", "fast");
    refuse_if(execution.graph != GraphMode::none,
              path + ".graph",
              "graph " + std::string(to_string(execution.graph)),
              "none");
    std::vector<std::string> exchanges = {"auto"};
    exchanges.insert(
        exchanges.end(), capabilities_.exchanges.begin(), capabilities_.exchanges.end());
    check_name(path + ".exchange", "exchange", execution.exchange, exchanges, kUnbuiltExchanges);
  }

  void check_policy(const std::string& path, const PolicyConfig& policy, std::size_t index) const {
    if (!is_folder_name(policy.name, "_-")) {
      fail(path + ".name",
           "'" + printable(policy.name) +
               "' names no folder; allowed: up to 64 letters, digits, '_' and '-', the first a "
               "letter or digit");
    }
    for (std::size_t other = 0; other < index; ++other) {
      if (experiment_.policies[other].name == policy.name) {
        fail(path + ".name", "'" + policy.name + "' is the name of two policies");
      }
    }
    const std::string from =
        loaded_.marks.count(path + ".schedule") > 0 ? path + ".schedule" : path + ".name";
    refuse_if(policy.schedule.ends_with(".json") || policy.schedule.find('/') != std::string::npos,
              from,
              "a schedule from a file",
              "the name of an overlap policy");
    std::vector<std::string> schedules;
    const PolicyCapability* capability = nullptr;
    for (const PolicyCapability& known : capabilities_.policies) {
      schedules.push_back(known.name);
      if (known.name == policy.schedule) {
        capability = &known;
      }
    }
    check_name(from, "overlap policy", policy.schedule, schedules, kUnbuiltSchedules);
    check_ubatches(path, policy, *capability);
    check_execution(path, policy.execution);
  }

  void check_ubatches(const std::string& path,
                      const PolicyConfig& policy,
                      const PolicyCapability& capability) const {
    const int count = num_ubatches(policy, capability);
    const int most = std::min(capability.max_ubatches, PolicyConfig::kMaxUbatches);
    if (count < capability.min_ubatches || count > most) {
      fail(path + ".ubatches",
           std::to_string(count) + " ubatches in " + capability.name + "; allowed: " +
               std::to_string(capability.min_ubatches) + " to " + std::to_string(most));
    }
    check_name(path + ".split", "split", policy.split.kind, capabilities_.splits, kUnbuiltSplits);
    if (policy.split.kind == "sizes" &&
        policy.split.sizes.size() != static_cast<std::size_t>(count)) {
      fail(path + ".split",
           std::to_string(policy.split.sizes.size()) + " sizes for " + std::to_string(count) +
               " ubatches; allowed: one size an ubatch");
    }
    const auto check_threshold = [&](const std::string& name, std::int64_t threshold) {
      if (threshold < 0 || (threshold > 0 && threshold < count)) {
        fail(path + ".thresholds." + name,
             std::to_string(threshold) + " tokens for " + std::to_string(count) +
                 " ubatches; allowed: 0 (no threshold), or at least one token an ubatch");
      }
    };
    check_threshold("prefill", policy.thresholds.prefill);
    check_threshold("decode", policy.thresholds.decode);
  }

  void check_verify() const {
    const VerifyConfig& verify = experiment_.verify;
    if (verify.mode == VerifyMode::none) {
      return;
    }
    std::vector<std::string> policies;
    for (const PolicyConfig& policy : experiment_.policies) {
      policies.push_back(policy.name);
    }
    if (!contains(policies, verify.baseline)) {
      fail("verify.baseline",
           "unknown policy '" + printable(verify.baseline) + "'; known: " + join_names(policies));
    }
    const RecordConfig& record = experiment_.record;
    if (record.outputs.empty() ||
        (record.outputs.size() == 1 && record.has(RecordedOutput::routing))) {
      fail("record.outputs",
           "nothing to verify; allowed with verify: at least one of hidden, logits, logits_all, "
           "layers");
    }
    if (verify.routing == VerifyRouting::replay && !record.has(RecordedOutput::routing)) {
      fail("verify.routing", "replay takes the recorded routing; add routing to record.outputs");
    }
  }

  void check_fault() const {
    if (!experiment_.fault) {
      return;
    }
    const FaultConfig& fault = *experiment_.fault;
    if (num_ranks_ && fault.rank >= *num_ranks_) {
      fail("fault.rank",
           "rank " + std::to_string(fault.rank) + " in a world of " + std::to_string(*num_ranks_) +
               " ranks, counted from 0");
    }
    check_name("fault.phase",
               "phase",
               fault.phase,
               capabilities_.phases,
               std::array<std::string_view, 0>{});
  }

  const LoadedExperiment& loaded_;
  const Experiment& experiment_;
  const Capabilities& capabilities_;
  std::optional<int> num_ranks_;
};

}  // namespace

int num_ubatches(const PolicyConfig& policy, const PolicyCapability& capability) {
  return policy.ubatches == 0 ? capability.default_ubatches : policy.ubatches;
}

void validate(const LoadedExperiment& loaded,
              const Capabilities& capabilities,
              std::optional<int> num_ranks) {
  Validator(loaded, capabilities, num_ranks).check_all();
}

}  // namespace dovetail
