#include "framework/run/check_fault.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "framework/base/error.hpp"
#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"
#include "framework/plan/dependency.hpp"
#include "framework/run/experiment_points.hpp"
#include "framework/step/data_fault.hpp"

namespace dovetail {
namespace {

/// The data fault of the policy; null = none.
const FaultConfig* data_fault_of(const Experiment& experiment, const PolicyConfig& policy) {
  const auto* fault = fault_of(experiment, policy.name);
  return fault != nullptr && is_data_fault(fault->kind) ? fault : nullptr;
}

class FaultCheck {
 public:
  /// `policy`: empty = of several.
  FaultCheck(const FaultConfig& fault, const std::string& policy)
      : fault_(fault), policy_(policy) {}

  [[noreturn]] void fail(const std::string& key, const std::string& problem) const {
    throw InputError("fault." + key + ": " + problem + " (" + std::string(to_string(fault_.kind)) +
                     (policy_.empty() ? "" : " in policy " + policy_) + ")");
  }

  /// Of a number from 0 to end - 1.
  void check_below(const std::string& key,
                   std::int64_t value,
                   std::int64_t end,
                   const std::string& of) const {
    if (value >= end) {
      fail(key,
           std::to_string(value) + ", and " + of + " has " + std::to_string(end) +
               "; allowed: " + (end > 0 ? "0 to " + std::to_string(end - 1) : "none"));
    }
  }

  void check_layer(const ModelShape& shape) const {
    check_below("layer", fault_.layer, shape.num_layers(), "the model");
    if (fault_.layer >= 0) {
      check_phase(shape.layers[static_cast<std::size_t>(fault_.layer)]);
    }
  }

  void check_model(const ModelShape& shape, const ModelDims& dims) const {
    check_layer(shape);
    const bool is_of_choice =
        fault_.kind == FaultKind::wrong_expert || fault_.kind == FaultKind::dropped_weight;
    if (is_of_choice) {
      check_below("choice", fault_.choice, dims.top_k, "a token");
    }
    if (fault_.kind == FaultKind::wrong_expert && dims.top_k == dims.num_experts) {
      fail("kind", "all experts are chosen; allowed: where the model has an expert that is not");
    }
    if (fault_.kind == FaultKind::flipped_element) {
      const bool is_of_hidden = fault_.element >= 0;
      check_below("element", is_of_hidden ? fault_.element : 0, dims.hidden, "a row");
    }
  }

  void check_grid(int expert_parallel) const {
    const bool needs_peers = fault_.kind == FaultKind::skipped_wait ||
                             fault_.kind == FaultKind::stale_buffer ||
                             fault_.kind == FaultKind::early_reuse;
    if (needs_peers && expert_parallel == 1) {
      fail("kind", "nothing is exchanged in a group of one rank; allowed: expert_parallel from 2");
    }
  }

  void check_schedule(const Schedule& schedule, bool on_gpu) const {
    check_below("ubatch", fault_.ubatch, schedule.num_ubatches, "the policy");
    const auto phase = parse<Phase>(fault_.phase);
    const bool is_of_all = fault_.kind == FaultKind::wrong_expert ||
                           fault_.kind == FaultKind::swapped_tokens ||
                           fault_.kind == FaultKind::flipped_element;
    const bool is_of_group = phase && has_groups(*phase) && !is_of_all;
    check_below("group", fault_.group, is_of_group ? schedule.num_groups : 1, "the phase");
    const bool skips = fault_.kind == FaultKind::skipped_wait;
    if (!skips && fault_.kind != FaultKind::early_reuse) {
      return;
    }
    if (can_act(schedule, fault_, on_gpu)) {
      return;
    }
    const std::string problem =
        skips ? "no wait for the other lane at " + place() +
                    (on_gpu ? "" : " that a CPU rank would have to make")
              : "at " + place() +
                    " no exchange of another ubatch comes before what it has received is read";
    fail("phase", problem + "; allowed: " + allowed(schedule, on_gpu));
  }

  /// Of a fault in any op: one of the schedules has the op.
  void check_op(const std::vector<const Schedule*>& schedules) const {
    int num_ubatches = 0;
    int num_groups = 0;
    for (const auto* schedule : schedules) {
      if (std::any_of(schedule->ops.begin(), schedule->ops.end(), [&](const Op& op) {
            return is_at(op);
          })) {
        return;
      }
      num_ubatches = std::max(num_ubatches, schedule->num_ubatches);
      num_groups = std::max(num_groups, schedule->num_groups);
    }
    check_below("ubatch", fault_.ubatch, num_ubatches, "the policy");
    check_below("group", fault_.group, num_groups, "the phase");
    fail("phase", "there is no " + place() + "; allowed: what `dovetail plan` lists");
  }

  void check_token(std::int64_t num_tokens) const {
    const bool is_of_token = fault_.kind != FaultKind::skipped_wait &&
                             fault_.kind != FaultKind::stale_buffer &&
                             fault_.kind != FaultKind::early_reuse;
    const int needed = fault_.kind == FaultKind::swapped_tokens ? fault_.token + 1 : fault_.token;
    if (is_of_token && needed >= num_tokens) {
      fail("token",
           std::to_string(fault_.token) + ", and ubatch " + std::to_string(fault_.ubatch) +
               " of rank " + std::to_string(fault_.rank) + " has " + counted(num_tokens, "token") +
               " in a step" +
               (needed > fault_.token ? ", of which the token and the next are swapped" : "") +
               "; allowed: fewer");
    }
  }

 private:
  bool is_at(const Op& op) const {
    return op.ubatch == fault_.ubatch && op.layer == fault_.layer &&
           to_string(op.phase) == fault_.phase && group_index(op) == fault_.group;
  }

  std::string place() const {
    return fault_.phase + " of layer " + std::to_string(fault_.layer) + " of ubatch " +
           std::to_string(fault_.ubatch);
  }

  void check_phase(const LayerShape& layer) const {
    std::vector<std::string_view> phases;
    for (const Phase phase : phases_of(layer)) {
      phases.push_back(to_string(phase));
    }
    if (std::find(phases.begin(), phases.end(), fault_.phase) != phases.end()) {
      return;
    }
    const auto possible = fault_phases(fault_.kind);
    std::erase_if(phases, [&](const auto& phase) {
      return is_data_fault(fault_.kind) &&
             std::find(possible.begin(), possible.end(), phase) == possible.end();
    });
    fail("phase",
         fault_.phase + ", which layer " + std::to_string(fault_.layer) +
             " does not have; allowed: " + (phases.empty() ? "another layer" : join_names(phases)));
  }

  /// On the CPU an op of the comm lane finds all that it waits for done.
  static bool can_act(const Schedule& schedule, const FaultConfig& fault, bool on_gpu) {
    const auto found = find_lane_fault(fault, schedule);
    return found && (on_gpu || fault.kind != FaultKind::skipped_wait ||
                     schedule.ops[static_cast<std::size_t>(found->reader)].lane == Lane::compute);
  }

  /// Phases of this ubatch in which the fault could act, in any layer.
  std::string allowed(const Schedule& schedule, bool on_gpu) const {
    std::vector<std::string> phases;
    for (const Op& op : schedule.ops) {
      FaultConfig other = fault_;
      other.layer = op.layer;
      other.phase = to_string(op.phase);
      other.group = group_index(op);
      const auto possible = fault_phases(fault_.kind);
      if (op.ubatch == fault_.ubatch &&
          std::find(possible.begin(), possible.end(), other.phase) != possible.end() &&
          std::find(phases.begin(), phases.end(), other.phase) == phases.end() &&
          can_act(schedule, other, on_gpu)) {
        phases.push_back(other.phase);
      }
    }
    return phases.empty() ? "another ubatch, or a policy with two lanes (fault.policy)"
                          : join_names(phases) + ", of a layer where it can";
  }

  const FaultConfig& fault_;
  const std::string policy_;
};

}  // namespace

void check_fault(const Experiment& experiment,
                 const PolicyConfig& policy,
                 const ResolvedPolicy& resolved,
                 const Architecture& architecture) {
  const auto* fault = data_fault_of(experiment, policy);
  if (fault == nullptr) {
    return;
  }
  const FaultCheck check(*fault, policy.name);
  check.check_model(architecture.shape(), architecture.dims());
  check.check_grid(experiment.parallel.expert_parallel);
  check.check_schedule(resolved.schedules.own, resolved.execution.on_gpu());
}

void check_fault_token(const Experiment& experiment,
                       const PolicyConfig& policy,
                       const ResolvedPolicy& resolved,
                       const RankWorkload& workload,
                       Rank rank) {
  const auto* fault = data_fault_of(experiment, policy);
  if (fault == nullptr || rank.value != fault->rank) {
    return;
  }
  const FaultCheck check(*fault, policy.name);
  for (const auto& cuts :
       cut_steps(workload.steps, resolved.split, resolved.schedules.own.num_ubatches)) {
    check.check_token(cuts.split[static_cast<std::size_t>(fault->ubatch)].num_tokens);
  }
}

void check_step_faults(const Experiment& experiment,
                       std::span<const ResolvedPolicy> resolved,
                       const Architecture& architecture) {
  for (const auto& fault : experiment.faults) {
    if (is_data_fault(fault.kind) || fault.kind == FaultKind::veto) {
      continue;
    }
    const FaultCheck check(fault, fault.policy);
    check.check_layer(architecture.shape());
    std::vector<const Schedule*> schedules;
    for (std::size_t i = 0; i < resolved.size(); ++i) {
      if (fault_of(experiment, experiment.policies[i].name) == &fault) {
        schedules.push_back(&resolved[i].schedules.own);
        schedules.push_back(&resolved[i].schedules.plain);
      }
    }
    check.check_op(schedules);
  }
}

void require_faults_happened(const Experiment& experiment) {
  for (const auto& fault : experiment.faults) {
    if (ends_run(fault.kind)) {
      throw RunError("the fault has not happened: " + describe(fault) +
                     "; its steps may have run without ubatches, or have no such op");
    }
  }
}

}  // namespace dovetail
