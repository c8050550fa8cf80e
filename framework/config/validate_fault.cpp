#include "framework/config/validate_fault.hpp"

#include <algorithm>
#include <string>

#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"

namespace dovetail {
namespace {

/// Key path of a fault: the only one may be a map.
std::string path_of(const LoadedExperiment& loaded, std::size_t index) {
  const bool is_map = loaded.experiment.faults.size() == 1 && loaded.marks.count("fault[0]") == 0;
  return is_map ? "fault" : "fault[" + std::to_string(index) + "]";
}

class FaultValidator {
 public:
  FaultValidator(const LoadedExperiment& loaded,
                 const Capabilities& capabilities,
                 std::optional<int> num_ranks,
                 std::size_t index)
      : loaded_(loaded),
        capabilities_(capabilities),
        num_ranks_(num_ranks),
        path_(path_of(loaded, index)),
        fault_(loaded.experiment.faults[index]) {
    for (const PolicyConfig& policy : loaded.experiment.policies) {
      if (hits(policy)) {
        policies_.push_back(&policy);
      }
    }
  }

  void check_all() const {
    if (num_ranks_ && fault_.rank >= *num_ranks_) {
      fail("rank",
           "rank " + std::to_string(fault_.rank) + " in a world of " +
               counted(*num_ranks_, "rank") + ", counted from 0");
    }
    const auto& phases = capabilities_.phases;
    if (std::find(phases.begin(), phases.end(), fault_.phase) == phases.end()) {
      fail("phase",
           "unknown phase '" + printable(fault_.phase) + "'; known: " + join_names(phases));
    }
    if (fault_.kind != FaultKind::delay && loaded_.experiment.execution.precision > 0) {
      fail("iteration",
           std::to_string(fault_.iteration) +
               ", before which execution.precision may end a policy; allowed: execution.precision "
               "0");
    }
    check_delay();
    check_policies();
    if (fault_.iteration == kContextIteration) {
      check_in_context();
    }
    if (is_data_fault(fault_.kind)) {
      check_data_fault();
    } else {
      check_iteration();
      check_in_graphs();
    }
  }

  bool hits(const PolicyConfig& policy) const {
    const VerifyConfig& verify = loaded_.experiment.verify;
    return dovetail::hits(
        fault_, policy.name, verify.mode == VerifyMode::none ? "" : verify.baseline);
  }

  [[noreturn]] void fail(const std::string& key, const std::string& message) const {
    const std::string path = path_ + "." + key;
    fail_at(find_mark(loaded_, path), path + ": " + message);
  }

 private:
  bool is_given(const std::string& key) const { return loaded_.marks.count(path_ + "." + key) > 0; }

  std::string policy_names() const {
    std::vector<std::string> names;
    for (const PolicyConfig& policy : loaded_.experiment.policies) {
      names.push_back(policy.name);
    }
    return join_names(names);
  }

  /// `delay` is the only kind that has delay_us, and has none of what says when or to which row.
  void check_delay() const {
    const bool is_delay = fault_.kind == FaultKind::delay;
    if (is_given("delay_us") != is_delay) {
      fail("delay_us",
           is_delay
               ? "delay needs it; allowed: 1 to 1000000"
               : std::string(to_string(fault_.kind)) + " has none; allowed: with the kind delay");
    }
    if (!is_delay) {
      return;
    }
    for (const char* key : {"iteration", "token", "choice", "element"}) {
      if (is_given(key)) {
        fail(key, "delay is of every step and of no row; allowed: leave it out");
      }
    }
    if (fault_.policy.empty()) {
      fail("policy",
           "delay must name the policy whose steps it makes longer; allowed: " + policy_names());
    }
  }

  void check_policies() const {
    if (!policies_.empty()) {
      return;
    }
    if (fault_.policy.empty()) {
      fail("policy",
           std::string(to_string(fault_.kind)) +
               " is left out of the baseline, and there is no other policy; allowed: " +
               policy_names());
    }
    fail("policy", "unknown policy '" + printable(fault_.policy) + "'; known: " + policy_names());
  }

  void check_data_fault() const {
    const std::string kind(to_string(fault_.kind));
    const auto phases = fault_phases(fault_.kind);
    if (std::find(phases.begin(), phases.end(), fault_.phase) == phases.end()) {
      fail("phase",
           fault_.phase + ", in which " + kind + " cannot act; allowed: " + join_names(phases));
    }
    const bool has_no_layer = fault_.phase == "embed" || fault_.phase == "output";
    if (has_no_layer != (fault_.layer < 0)) {
      fail("layer",
           std::to_string(fault_.layer) + ", with the phase " + fault_.phase +
               (has_no_layer ? ", which is of no layer; allowed: -1" : "; allowed: from 0"));
    }
    if (fault_.kind == FaultKind::skipped_wait && fault_.iteration == 0) {
      fail("iteration",
           "0, in which buffers hold nothing yet that could be read too early; allowed: from 1");
    }
    for (const PolicyConfig* policy : policies_) {
      // Nothing judges what a warm-up leaves: a fault there would look like one that no one
      // noticed.
      const int first = policy->execution.warmup;
      const int last = first + policy->execution.iterations - 1;
      if (fault_.iteration < first || fault_.iteration > last) {
        fail("iteration",
             std::to_string(fault_.iteration) + ", and the timed iterations of policy " +
                 policy->name + " are those behind its warm-up; allowed: " + std::to_string(first) +
                 " to " + std::to_string(last));
      }
    }
  }

  /// Of a fault that results say nothing of: any iteration that a policy has.
  void check_iteration() const {
    const auto& record = loaded_.experiment.record;
    const int profiled = record.timing == TimingDetail::ops ? record.profiled_iterations : 0;
    int last = 0;
    for (const PolicyConfig* policy : policies_) {
      const auto& execution = policy->execution;
      last = std::max(last, execution.warmup + execution.iterations + profiled - 1);
    }
    if (fault_.iteration > last) {
      fail("iteration",
           std::to_string(fault_.iteration) +
               ", and warm-up, timed and profiled iterations end with " + std::to_string(last) +
               "; allowed: " + std::to_string(kContextIteration) + " to " + std::to_string(last));
    }
  }

  /// These steps are eager, of one ubatch, and the same for all policies: the first one takes them.
  void check_in_context() const {
    const auto refuse = [this](const std::string& why) {
      fail("iteration", "-1, the steps that compute the contexts, " + why);
    };
    const auto& experiment = loaded_.experiment;
    if (!ends_run(fault_.kind)) {
      refuse("which can have exception, hang, slow and kill; allowed: from 0");
    }
    if (experiment.workload.context == ContextFill::random) {
      refuse("and the contexts are random; allowed: from 0, or context prefill");
    }
    if (fault_.ubatch > 0) {
      refuse("which have one ubatch; allowed: ubatch 0");
    }
    if (!hits(experiment.policies.front())) {
      refuse("which are those of policy " + experiment.policies.front().name +
             "; allowed: that policy, or none");
    }
  }

  bool has_graphs(GraphMode least) const {
    return std::any_of(policies_.begin(), policies_.end(), [&](const PolicyConfig* policy) {
      return policy->execution.graph >= least;
    });
  }

  /// A capture that fails is of the iteration in which steps are first met.
  void check_in_graphs() const {
    if (fault_.kind == FaultKind::capture && !has_graphs(GraphMode::piecewise)) {
      fail("kind", "capture, and no policy has graphs; allowed: graph piecewise or full");
    }
    if (fault_.kind == FaultKind::capture && !has_graphs(GraphMode::full) &&
        (fault_.phase == "dispatch" || fault_.phase == "combine")) {
      fail("phase",
           fault_.phase +
               ", which graph piecewise does not capture; allowed: phases of the compute "
               "lane, or graph full");
    }
    if (fault_.kind == FaultKind::capture && fault_.iteration > 0) {
      fail("iteration",
           std::to_string(fault_.iteration) +
               ", and steps are captured in the first one and replayed from then on; allowed: 0");
    }
  }

  const LoadedExperiment& loaded_;
  const Capabilities& capabilities_;
  std::optional<int> num_ranks_;
  std::string path_;
  const FaultConfig& fault_;
  std::vector<const PolicyConfig*> policies_;  ///< in which it happens
};

[[noreturn]] void fail_not_allowed(const LoadedExperiment& loaded, std::size_t index) {
  const std::string path = path_of(loaded, index) + ".kind";
  const FaultKind kind = loaded.experiment.faults[index].kind;
  const std::string name(to_string(kind));
  fail_at(find_mark(loaded, path),
          path + ": " + name + " makes " +
              (is_data_fault(kind) ? "results wrong" : "steps longer") +
              " in silence; allowed: only where the command line says "
              "--allow-fault " +
              name);
}

}  // namespace

void check_faults(const LoadedExperiment& loaded,
                  const Capabilities& capabilities,
                  std::optional<int> num_ranks) {
  std::vector<FaultValidator> faults;
  for (std::size_t i = 0; i < loaded.experiment.faults.size(); ++i) {
    faults.emplace_back(loaded, capabilities, num_ranks, i);
    faults.back().check_all();
    for (const PolicyConfig& policy : loaded.experiment.policies) {
      const auto num_hits = std::count_if(
          faults.begin(), faults.end(), [&](const auto& fault) { return fault.hits(policy); });
      if (num_hits > 1) {
        faults.back().fail("policy",
                           "policy " + policy.name + " has another fault already; allowed: one");
      }
    }
  }
}

void check_allowed_faults(const LoadedExperiment& loaded, const std::vector<FaultKind>& allowed) {
  const auto& faults = loaded.experiment.faults;
  for (std::size_t i = 0; i < faults.size(); ++i) {
    const FaultKind kind = faults[i].kind;
    if (is_silent(kind) && std::find(allowed.begin(), allowed.end(), kind) == allowed.end()) {
      fail_not_allowed(loaded, i);
    }
  }
}

}  // namespace dovetail
