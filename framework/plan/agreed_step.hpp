// From what the ranks have said about a step to what all of them do in it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "framework/config/experiment.hpp"
#include "framework/plan/agreement.hpp"
#include "framework/plan/policy_schedules.hpp"
#include "framework/plan/split.hpp"
#include "framework/plan/workload.hpp"

namespace dovetail {

/// A rank's batch of one step, cut for the policy's own schedule and as one ubatch.
struct StepCuts {
  std::vector<UbatchSlice> split;
  std::vector<UbatchSlice> whole;
};

/// The cuts of the batch of each step.
std::vector<StepCuts> cut_steps(const std::vector<StepWorkload>& steps,
                                const SplitRule& rule,
                                int num_ubatches);

/// The rule that pads the steps of a policy with that many ubatches. It follows from the reduced
/// messages of all ranks, one for each step. `sizes` is as for make_bounds_rule.
BoundsRule bounds_of_steps(const std::optional<std::vector<std::int64_t>>& sizes,
                           std::span<const AgreementMessage> reduced,
                           int num_ubatches);

/// What all ranks do in a step. Refers to the policy's schedules and the step's cuts.
struct AgreedStep {
  StepDecision decision;
  const Schedule& schedule;
  std::uint64_t schedule_digest = 0;
  const std::vector<UbatchSlice>& slices;  ///< of this rank
  int schedule_index = 0;                  ///< in the record; 1 = the plain one in place of the own
};

/// What the decisions of a policy's steps depend on, beside the ranks' messages.
AgreementRule agreement_rule(const PolicyConfig& policy,
                             const PolicySchedules& schedules,
                             WorkPhase phase,
                             const BoundsRule& bounds);

/// Pure. The policy's own schedule where the step is ubatched or there is nothing to decide, else
/// the plain one. Throws as decide().
AgreedStep agree_on_step(const AgreementMessage& reduced,
                         const AgreementRule& rule,
                         const PolicySchedules& schedules,
                         const StepCuts& cuts);

}  // namespace dovetail
