// What the steps of a policy would run, as the ranks would agree on it: its own schedule, or the
// plain one, and why.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "framework/config/experiment.hpp"
#include "framework/plan/agreed_step.hpp"
#include "framework/run/resolve.hpp"

namespace dovetail {

/// Steps in a row that run the same for the same reason; of `auto` they have one load, too.
struct PlannedSteps {
  std::int64_t first = 0;  ///< counted over all variants
  std::int64_t last = 0;
  std::string schedule;                      ///< that runs: the policy's own, or "sequential"
  bool is_own = true;                        ///< whether it is the policy's own
  VetoReason reason = VetoReason::none;      ///< why not the policy's own
  StepLoad load;                             ///< what a step time depends on, of the first step
  std::optional<StepTimeEstimate> estimate;  ///< of `auto`: what its table says of that load

  /// "steps 0 to 7 run dual_batch: the table says 12.300 ms with ubatches and 13.100 ms without,
  /// at 512 tokens and 0.0 tokens of context".
  std::string describe() const;
};

/// `reduced` are the messages of all ranks, reduced, one a step; the policy's bounds are set. No
/// rank votes against ubatches. Pure.
std::vector<PlannedSteps> plan_steps(const PolicyConfig& policy,
                                     const ResolvedPolicy& resolved,
                                     WorkPhase phase,
                                     std::span<const AgreementMessage> reduced);

/// What a step takes of the exchange and of the experts.
struct StepSize {
  bool is_own = true;                ///< runs the policy's own schedule; false = the plain one
  std::vector<std::int64_t> tokens;  ///< of each ubatch on the rank that has most, with padding

  friend bool operator==(const StepSize&, const StepSize&) = default;
};

/// The sizes of these steps, each once. `may_be_vetoed`: some rank votes against ubatches in one of
/// the iterations, so that every step runs the plain schedule, too. Pure.
std::vector<StepSize> step_sizes(const PolicyConfig& policy,
                                 const ResolvedPolicy& resolved,
                                 WorkPhase phase,
                                 std::span<const AgreementMessage> reduced,
                                 bool may_be_vetoed);

}  // namespace dovetail
