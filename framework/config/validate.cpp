#include "framework/config/validate.hpp"

#include <algorithm>
#include <string_view>
#include <variant>

#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"
#include "framework/config/exchange_rules.hpp"
#include "framework/config/key_table.hpp"
#include "framework/config/validate_execution.hpp"
#include "framework/config/validate_fault.hpp"
#include "framework/config/validate_policy.hpp"
#include "framework/config/validate_workload.hpp"

namespace dovetail {
namespace {

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
    check_workload(loaded_, num_ranks_);
    check_execution("execution", experiment_.execution);
    for (std::size_t i = 0; i < experiment_.policies.size(); ++i) {
      check_policy("policies[" + std::to_string(i) + "]", experiment_.policies[i], i);
    }
    check_verify();
    check_faults(loaded_, capabilities_, num_ranks_);
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

  /// Names of `unbuilt` are refused as what they are, rather than as unknown.
  void check_name(const std::string& path,
                  const std::string& kind,
                  const std::string& name,
                  const std::vector<std::string>& known,
                  const std::vector<std::string>& unbuilt = {}) const {
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
               capabilities_.architectures);
  }

  void check_grid() const {
    const int expert_parallel = experiment_.parallel.expert_parallel;
    if (num_ranks_ && *num_ranks_ % expert_parallel != 0) {
      fail("parallel.expert_parallel",
           "the world of " + counted(*num_ranks_, "rank") + " is no multiple of " +
               std::to_string(expert_parallel));
    }
  }

  void check_execution(const std::string& path, const ExecutionConfig& execution) const {
    std::vector<std::string> built = {"auto"};
    std::vector<std::string> unbuilt;
    for (const auto& exchange : capabilities_.exchanges) {
      (exchange.built ? built : unbuilt).push_back(exchange.name);
    }
    if (!is_exchange_table(execution.exchange)) {
      check_name(path + ".exchange", "exchange", execution.exchange, built, unbuilt);
    }
    if (execution.exchange_table != "none" && !is_exchange_table(execution.exchange_table)) {
      fail(path + ".exchange_table",
           "'" + printable(execution.exchange_table) +
               "' is no table of times; allowed: none, or the path of a *.json that bench exchange "
               "has printed");
    }
    if (execution.cache_tokens % execution.page_size != 0) {
      fail(path + ".cache_tokens",
           counted(execution.cache_tokens, "token") +
               (execution.cache_tokens == 1 ? " is" : " are") + " no whole number of pages of " +
               std::to_string(execution.page_size) +
               "; allowed: a multiple of page_size, or 0 for as many as needed");
    }
    if (const auto problem = find_execution_problem(execution.device, execution, capabilities_)) {
      fail(path + "." + problem->place, problem->message);
    }
  }

  void check_policy(const std::string& path, const PolicyConfig& policy, std::size_t index) const {
    if (!is_folder_name(policy.name, "_-")) {
      fail(path + ".name",
           "'" + printable(policy.name) +
               "' names no folder; allowed: up to 64 letters, digits, '_' and '-', the first a "
               "letter or digit");
    }
    if (policy.name == kControlPolicy) {
      fail(path + ".name",
           "'control' is the name of the baseline's second copy, which execution.control makes; "
           "allowed: any other");
    }
    for (std::size_t other = 0; other < index; ++other) {
      if (experiment_.policies[other].name == policy.name) {
        fail(path + ".name", "'" + policy.name + "' is the name of two policies");
      }
    }
    check_policy_schedule(loaded_, capabilities_, path, policy);
    for (const auto& key : keys_of<ExecutionConfig>().keys()) {
      const std::string common = key.write(experiment_.execution);
      refuse_if(key.is_same_in_all_policies && key.write(policy.execution) != common,
                path + "." + key.name,
                "a " + key.name + " of a policy's own",
                "the experiment's, " + common);
    }
    check_execution(path, policy.execution);
    check_variants(policy);
    check_rounds(policy);
  }

  /// Each variant needs a timed iteration whose outputs are recorded.
  void check_variants(const PolicyConfig& policy) const {
    const int variants = experiment_.workload.variants;
    if (variants > policy.execution.iterations) {
      fail("workload.variants",
           std::to_string(variants) + ", and policy " + policy.name + " has " +
               counted(policy.execution.iterations, "iteration") +
               ", one for each variant at most; allowed: 1 to " +
               std::to_string(policy.execution.iterations) + ", or more iterations");
    }
  }

  /// Each round has at least one timed iteration of each variant of every policy.
  void check_rounds(const PolicyConfig& policy) const {
    const int rounds = experiment_.execution.rounds;
    if (experiment_.execution.precision > 0 && rounds > 0 && rounds < kLeastPreciseRounds) {
      fail("execution.rounds",
           std::to_string(rounds) + " with execution.precision, which ends no run before round " +
               std::to_string(kLeastPreciseRounds) + "; allowed: 0, or " +
               std::to_string(kLeastPreciseRounds) + " or more");
    }
    const int most = policy.execution.iterations / experiment_.workload.variants;
    if (rounds > most) {
      fail("execution.rounds",
           std::to_string(rounds) + ", and policy " + policy.name + " has " +
               counted(policy.execution.iterations, "iteration") +
               (experiment_.workload.variants > 1
                    ? " of " + std::to_string(experiment_.workload.variants) + " variants"
                    : "") +
               "; allowed: 0 to " + std::to_string(most) + ", or more iterations");
    }
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
           "layers, kv");
    }
    if (verify.routing == VerifyRouting::replay && !record.has(RecordedOutput::routing)) {
      fail("verify.routing", "replay takes the recorded routing; add routing to record.outputs");
    }
  }

  const LoadedExperiment& loaded_;
  const Experiment& experiment_;
  const Capabilities& capabilities_;
  std::optional<int> num_ranks_;
};

template <class S>
std::string find_difference(const S& before, const S& own) {
  for (const auto& key : keys_of<S>().keys()) {
    if (!key.is_own_of_a_stage && key.write(before) != key.write(own)) {
      return key.name;
    }
  }
  return "";
}

}  // namespace

int num_ubatches(const PolicyConfig& policy, const PolicyCapability& capability) {
  return policy.ubatches == 0 ? capability.default_ubatches : policy.ubatches;
}

void validate(const LoadedExperiment& loaded,
              const Capabilities& capabilities,
              std::optional<int> num_ranks) {
  Validator(loaded, capabilities, num_ranks).check_all();
}

std::string find_difference_of_stages(const Experiment& before, const Experiment& own) {
  if (const std::string key = find_difference(before.model, own.model); !key.empty()) {
    return "model." + key;
  }
  if (before.execution.dtype != own.execution.dtype) {
    return "execution.dtype";
  }
  const std::string key = find_difference(before.workload, own.workload);
  return key.empty() ? "" : "workload." + key;
}

}  // namespace dovetail
