// How the steps of a policy run on a rank's device. What is run is decided with the other ranks
// (framework/plan/agreed_step.hpp); a driver runs it: on the CPU by a host executor, on a GPU by
// streams and graphs.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "framework/base/graph_counters.hpp"
#include "framework/base/types.hpp"
#include "framework/comm/exchange/exchange.hpp"
#include "framework/exec/op_times.hpp"
#include "framework/plan/agreed_step.hpp"
#include "framework/record/schema.hpp"
#include "framework/step/step_inputs.hpp"
#include "framework/step/step_setup.hpp"

namespace dovetail {

/// A pass over one step of the iteration.
struct StepPass {
  int step = 0;
  PassKind pass = PassKind::full;
  bool is_profiled = false;  ///< op times are wanted
  bool keep_plans = false;   ///< of the exchange, for passes that leave something out, and to count
                             ///< the experts' rows
  bool all_sms = false;      ///< of a GPU: none is left to the exchange; a pass without exchange
  bool is_gated = false;  ///< of a GPU: ops that the host enqueues kernel by kernel are held back
                          ///< until they are enqueued whole; not the exchange
  bool poison_exchange = false;  ///< its buffers are NaN between uses, too; runs eagerly
};

/// How a step was run, and what it sent.
struct StepReport {
  GraphMode graph = GraphMode::none;
  EagerReason eager_reason = EagerReason::mode_none;
  bool captured = false;          ///< in the call of prepare before it
  int comm_sms = 0;               ///< that the exchange was begun with, or kAllSms; 0 = none (CPU)
  int sms_left_out = 0;           ///< of the GPU, left to the exchange; equal on all ranks
  bool enqueues_kernels = false;  ///< on a GPU, those of some compute op one by one; equal likewise
  std::int64_t enqueue_ns = -1;   ///< host time until all was enqueued; -1 = not known (CPU)
  Traffic traffic;
};

/// What a driver knows behind all steps so far.
struct DriverReport {
  MemoryRecord memory;  ///< -1 = not known (CPU)
  GraphCounters graphs;
  std::int64_t device_clock_error_ns = 0;  ///< the largest of the profiled passes; 0 on the CPU
  std::vector<float> most_roundings;       ///< as ModelStep::most_roundings
};

/// The calls of a step are prepare, run, finish, from the main thread. All are collective over the
/// world in the sense that every rank makes them, with equal arguments.
class StepDriver {
 public:
  StepDriver() = default;
  virtual ~StepDriver() = default;
  StepDriver(const StepDriver&) = delete;
  StepDriver& operator=(const StepDriver&) = delete;
  StepDriver(StepDriver&&) = delete;
  StepDriver& operator=(StepDriver&&) = delete;

  /// Does what is no part of the step: puts inputs in place and captures graphs. Afterwards all
  /// that a full pass must write is NaN, also where the attempt of a capture has run the step
  /// before.
  virtual void prepare(const AgreedStep& agreed, const StepPass& pass) = 0;

  /// Runs the step, from the first op to the end of the last one. `times` may be null; to read them
  /// (OpTimes::reading_ns) is no part of the step.
  virtual void run(OpTimes* times) = 0;

  /// Makes the outputs readable in the policy's StepOutputs. Throws what the device has found.
  virtual StepReport finish() = 0;

  /// Adds the rows that each local expert computed in the step that was finished last, whose pass
  /// has kept its plans: [layers, experts_per_rank] row-major.
  virtual void add_tokens_per_expert(std::span<std::int64_t> counts) const = 0;

  /// Runs a forward pass that fills a part of the KV cache's context. `outputs` belong to that
  /// context step, are poisoned, and outlive the driver. They get what they are made for.
  virtual void fill_context(int context_step, StepOutputs& outputs) = 0;

  /// Equal on all ranks as long as their graphs are; see agreement.hpp. 0 without graphs.
  virtual std::uint64_t graph_cache_digest() const = 0;

  virtual DriverReport report() const = 0;
};

/// The driver of the rank's device. Collective over the world. All that `setup` refers to outlives
/// it.
std::unique_ptr<StepDriver> make_step_driver(const StepSetup& setup);

}  // namespace dovetail
