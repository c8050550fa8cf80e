// The steps of one policy on one rank: each is agreed on by all ranks, made ready, and run.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "framework/exec/host_lead.hpp"
#include "framework/plan/agreed_step.hpp"
#include "framework/run/policy_run.hpp"
#include "framework/step/fault.hpp"
#include "framework/step/step_driver.hpp"

namespace dovetail {

/// The iteration of steps in which no fault happens.
inline constexpr int kNoIteration = -1;

/// Owns the driver and what it refers to. Members are in order of creation. All calls are
/// collective over the world, from the main thread.
class PolicySteps {
 public:
  /// `setup` outlives it, and so does `host_lead`, which is the policy's. `poisons_received`: steps
  /// may be run with StepPass::poison_exchange.
  PolicySteps(const PolicyRunSetup& setup, HostLead& host_lead, bool poisons_received);

  /// Whose waits are bounded by the policy's own timeout_s.
  const Ranks& ranks() const { return ranks_; }

  StepDriver& driver() { return *driver_; }

  /// Decides on a step with the other ranks, and makes it ready to run. Iterations count over
  /// warm-up, timed and profiled ones.
  AgreedStep prepare(const StepPass& pass, int iteration);

  /// What the last call of prepare took.
  const BeforeStep& before() const { return before_; }

  /// A step that is not timed; returns its schedule.
  int take(const StepPass& pass, int iteration);

  /// Waits until all ranks are there.
  void meet(const WaitPolicy& wait) const;

 private:
  /// For the report of a failure.
  const char* activity_of(const StepPass& pass, int iteration) const;

  const PolicyRunSetup& setup_;
  const Ranks ranks_;
  const std::unique_ptr<const Model> model_;  ///< with the policy's own numerics
  const PolicySchedules& schedules_;
  const std::uint64_t digest_;
  const AgreementRule rule_;
  const std::vector<StepCuts> cuts_;  ///< of each step of all variants
  std::optional<InjectedFault> fault_;
  std::unique_ptr<StepDriver> driver_;
  BeforeStep before_;
};

}  // namespace dovetail
