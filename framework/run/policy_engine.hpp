// What the ranks decide together about the steps of one policy, and the driver that runs them.
// policy_run.cpp says in which order steps are taken.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "framework/step/fault.hpp"
#include "framework/step/policy_context.hpp"
#include "framework/step/step_driver.hpp"

namespace dovetail {

/// One a rank and policy; immovable. All calls from one thread; all but the getters are collective
/// over the world.
class PolicyEngine {
 public:
  /// `context` outlives it.
  explicit PolicyEngine(const PolicyRunContext& context);
  ~PolicyEngine();
  PolicyEngine(const PolicyEngine&) = delete;
  PolicyEngine& operator=(const PolicyEngine&) = delete;
  PolicyEngine(PolicyEngine&&) = delete;
  PolicyEngine& operator=(PolicyEngine&&) = delete;

  int num_steps() const { return static_cast<int>(splits_.size()); }

  StepDriver& driver() { return *driver_; }

  /// Fills the KV cache up to the requests' contexts, unless an earlier policy has; not over an
  /// emulated link. Waits until all ranks are there.
  void fill_context();

  /// Decides on a step, and makes it ready to run. Iterations count over warm-up and timed ones; -1
  /// = a profiled one, in which no fault happens. driver().run and finish come next.
  AgreedStep prepare(const StepPass& pass, int iteration);

  /// A step of which nothing but its effect is wanted.
  void take_step(const StepPass& pass, int iteration);

  /// Rows that each expert of this rank computes, steps added up: [layers, experts_per_rank]
  /// row-major. Of the last passes; where these have not kept their plans, of one more over each
  /// step.
  std::vector<std::int64_t> tokens_per_expert();

 private:
  AgreedStep agree(int step, int iteration);

  const PolicyRunContext& context_;
  const RankContext& ranks_;
  WaitPolicy wait_;
  std::uint64_t digest_ = 0;
  std::unique_ptr<InjectedFault> fault_;
  std::vector<std::vector<UbatchSlice>> splits_;  ///< of each step
  std::vector<std::vector<UbatchSlice>> wholes_;
  std::unique_ptr<StepDriver> driver_;
};

}  // namespace dovetail
