// How the steps of a policy run on a rank's device. The policy engine decides with the other ranks
// what is run; a driver runs it: on the CPU by a host executor, on a GPU by streams and graphs.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/comm/exchange/exchange.hpp"
#include "framework/exec/op_times.hpp"
#include "framework/plan/agreement.hpp"
#include "framework/plan/graph_cache.hpp"
#include "framework/record/recorder.hpp"
#include "framework/step/model_step.hpp"

namespace dovetail {

struct PolicyRunContext;

/// What all ranks do in a step.
struct AgreedStep {
  StepDecision decision;
  const Schedule& schedule;
  const std::vector<UbatchSlice>& slices;
  int schedule_index = 0;  ///< in the record
};

/// A pass over one step of the iteration.
struct StepPass {
  int step = 0;
  PassKind pass = PassKind::full;
  bool is_profiled = false;  ///< op times are wanted
  bool keep_plans = false;   ///< of the exchange, for the passes that leave something out
};

/// How a step was run.
struct StepFacts {
  GraphMode graph = GraphMode::none;
  EagerReason eager_reason = EagerReason::mode_none;
  bool captured = false;         ///< in the call of prepare before it
  std::int64_t enqueue_ns = -1;  ///< host time until all was enqueued; -1 = not known (CPU)
};

/// All calls from the main thread: prepare, run, finish. All are collective over the world in the
/// sense that every rank makes them, with equal arguments.
class StepDriver {
 public:
  StepDriver() = default;
  virtual ~StepDriver() = default;
  StepDriver(const StepDriver&) = delete;
  StepDriver& operator=(const StepDriver&) = delete;
  StepDriver(StepDriver&&) = delete;
  StepDriver& operator=(StepDriver&&) = delete;

  virtual Exchange& exchange() = 0;

  /// True where a full pass keeps its exchange plans only when it is asked to.
  virtual bool plans_cost_time() const { return false; }

  /// What is no part of the step: inputs put in place; graphs captured.
  virtual void prepare(const AgreedStep& agreed, const StepPass& pass) = 0;

  /// The step, from the first op to the last one's end. `times` may be null.
  virtual StepFacts run(OpTimes* times) = 0;

  /// Makes the outputs readable in the policy's StepOutputs, and reports what the device has found.
  virtual void finish() {}

  /// A forward pass that fills a part of the context.
  virtual void fill_context(int context_step) = 0;

  /// Fills what a step must write with NaN.
  virtual void poison() {}

  /// Equal on all ranks as long as their graphs are; see agreement.hpp.
  virtual std::uint64_t graph_cache_digest() const { return 0; }

  virtual void drop_graphs() {}

  /// ModelStep::add_tokens_per_expert of the last full pass over a step; where plans cost time,
  /// right behind the pass that has kept them.
  virtual void add_tokens_per_expert(int step, std::span<std::int64_t> counts) const = 0;

  /// The device's memory, behind the timed steps.
  virtual void record_memory(RankRecorder& /*recorder*/) const {}

  /// Counters of graphs, and the error of the device's clock, behind all steps.
  virtual void record_graphs(RankRecorder& /*recorder*/) const {}
};

/// The driver of the rank's device. `context` and `fault` (may be null) outlive it. Collective over
/// the world.
std::unique_ptr<StepDriver> make_step_driver(const PolicyRunContext& context, FaultHook* fault);

}  // namespace dovetail
