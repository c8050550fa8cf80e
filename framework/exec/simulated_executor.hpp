// A schedule on paper: a table of costs in, a timeline of both lanes out. Needs no threads, no
// model and no time of its own.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "framework/exec/executor.hpp"
#include "framework/exec/op_times.hpp"
#include "framework/plan/phase.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// Nanoseconds that an op takes when it runs alone; >= 0.
using OpCost = std::function<double(const Op&)>;

/// Time of a phase as a line over the tokens of the ubatch.
struct PhaseCost {
  double fixed_ns = 0;
  double per_token_ns = 0;
};

/// Costs by phase, kind of layer and tokens. Where experts are cut, an op of a group has its share
/// of the tokens' time.
struct CostTable {
  std::array<PhaseCost, kNumPhases> moe;    ///< by phase; embed and output are looked up here, too
  std::array<PhaseCost, kNumPhases> dense;  ///< by phase: attention and mlp of dense layers
  std::vector<LayerShape> layers;
  std::vector<std::int64_t> ubatch_tokens;  ///< [ubatches]
  int num_groups = 1;                       ///< of the schedule

  /// The cost of an op. Throws ContractError for a layer or a ubatch that the table lacks.
  double operator()(const Op& op) const;
};

struct SimulationOptions {
  double compute_contention = 1.0;  ///< a compute op beside a comm op takes this times longer; >= 1
  double comm_contention = 1.0;     ///< a comm op beside a compute op; >= 1
  double hand_off_ns = 0;           ///< from one ubatch's op to another ubatch's next op
};

/// The times of one simulated step in virtual ns from 0; -1 = left out by the pass.
struct SimulatedStep {
  OpTimes times;
  std::int64_t total_ns = 0;
};

/// Follows the host executor exactly, event by event: the thread with the baton enqueues the ops in
/// order; a compute op starts when it is reached and its waits are done, and the thread stays in it
/// to its end; a comm op starts when it is enqueued and the comm op before it is done. While both
/// lanes work each is slowed down by its contention factor. Needs a proven schedule
/// (check_schedule). Throws ContractError for a negative cost or a factor below 1.
SimulatedStep simulate(const Schedule& schedule,
                       const OpCost& cost,
                       const SimulationOptions& options,
                       PassKind pass = PassKind::full);

/// The same behind the executor interface, so that the runner drives it, too: enqueue runs the body
/// at once, end_step replaces all four columns of the times by virtual ones.
class SimulatedExecutor final : public Executor {
 public:
  SimulatedExecutor(OpCost cost, SimulationOptions options);

  void enter_thread(int ubatch) override;
  void begin_step(const Schedule& schedule, StepBody& body, PassKind pass, OpTimes* times) override;
  void enqueue(int index) override;
  void end_step() override;
  void abort_step() noexcept override;

  /// Virtual time of the last step that ended.
  std::int64_t total_ns() const { return total_ns_; }

 private:
  OpCost cost_;
  SimulationOptions options_;
  const Schedule* schedule_ = nullptr;
  StepBody* body_ = nullptr;
  PassKind pass_ = PassKind::full;
  OpTimes* times_ = nullptr;
  std::int64_t total_ns_ = 0;
};

}  // namespace dovetail
