// What the steps of one policy run on: exchange, executor, runner, and the steps of the iteration.
// policy_run.cpp says in which order they are taken.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "framework/device/fault.hpp"
#include "framework/device/policy_run.hpp"
#include "framework/exec/host_executor.hpp"
#include "framework/exec/op_times.hpp"
#include "framework/exec/runner.hpp"
#include "framework/plan/agreement.hpp"

namespace dovetail {

/// What all ranks do in a step.
struct AgreedStep {
  StepDecision decision;
  const Schedule& schedule;
  const std::vector<UbatchSlice>& slices;
  int schedule_index = 0;  ///< in the record
};

/// One a rank and policy; immovable. All calls from one thread; agree_on_step, take_step and
/// fill_context are collective over the world.
class PolicyEngine {
 public:
  /// `context` outlives it. Members are made in the order in which they need each other.
  explicit PolicyEngine(const PolicyRunContext& context);
  ~PolicyEngine();
  PolicyEngine(const PolicyEngine&) = delete;
  PolicyEngine& operator=(const PolicyEngine&) = delete;
  PolicyEngine(PolicyEngine&&) = delete;
  PolicyEngine& operator=(PolicyEngine&&) = delete;

  int num_steps() const { return static_cast<int>(steps_.size()); }

  Exchange& exchange() { return *exchange_; }

  /// Fills the KV cache up to the requests' contexts, unless an earlier policy has; not over an
  /// emulated link. Waits until all ranks are there.
  void fill_context();

  /// Iterations count over warm-up and timed ones; -1 = a profiled one, in which no fault happens.
  AgreedStep agree_on_step(int step, int iteration);

  /// `times` may be null.
  void take_step(int step, const AgreedStep& agreed, PassKind pass, OpTimes* times);

  /// Rows that each expert of this rank computed in the last full pass of every step, steps added
  /// up: [layers, experts_per_rank] row-major. Local.
  std::vector<std::int64_t> tokens_per_expert() const;

 private:
  struct Step;
  struct ContextStep;

  void fill(Iteration& iteration);
  WaitPolicy policy_wait() const;
  WaitPolicy exchange_wait();

  const PolicyRunContext& context_;
  const RankContext& ranks_;
  WaitPolicy wait_;  ///< the ranks', bounded by the policy's own timeout_s
  std::uint64_t digest_ = 0;
  std::atomic<bool> exchange_cancelled_{false};
  std::unique_ptr<Exchange> exchange_;
  std::unique_ptr<InjectedFault> fault_;
  std::vector<std::unique_ptr<Step>> steps_;
  // Of the context that is being filled. They stay when it fails: a thread may be in an op of them.
  std::unique_ptr<Exchange> context_exchange_;
  std::unique_ptr<ContextStep> context_step_;
  HostExecutor executor_;
  Runner runner_;
};

}  // namespace dovetail
