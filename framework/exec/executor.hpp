// The interface that the runner drives: where ops run and how lanes wait for one another. Host,
// CUDA and simulated executors implement it; the runner, the baton and the schedules are the same
// for all.
#pragma once

#include "framework/base/types.hpp"
#include "framework/exec/op_times.hpp"
#include "framework/exec/step_body.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// Order of calls in a step: begin_step (main thread), enqueue(0..n-1) in the schedule's order,
/// each by the thread that holds the baton, then end_step or abort_step (main thread).
class Executor {
 public:
  virtual ~Executor() = default;

  /// Once in each thread that will enqueue, before its first step: device, inference mode, streams,
  /// handles. `ubatch` is -1 in the main thread (inline walk).
  virtual void enter_thread(int ubatch) = 0;

  /// Prepares the lanes for a step. `schedule`, `body` and `times` outlive the step; `times` may be
  /// null (nothing is timed).
  virtual void begin_step(const Schedule& schedule,
                          StepBody& body,
                          PassKind pass,
                          OpTimes* times) = 0;

  /// Starts ops[index]. Host: a compute op first waits for its comm waits, then runs here; a comm
  /// op is handed to the comm lane. CUDA: enqueues on the op's stream with event edges. An op that
  /// `pass` leaves out counts as done at once; the others keep the order that the whole schedule
  /// gives them (lane_edges.hpp). Throws what the body threw, or what an earlier comm op threw, as
  /// OpError with ubatch, layer and phase.
  virtual void enqueue(int index) = 0;

  /// Returns when all lanes are done, or in a capture joined; bounded by the executor's time-out;
  /// throws OpError.
  virtual void end_step() = 0;

  /// After a failure: stops the lanes so that the executor is idle again; pending comm ops are
  /// dropped. Never throws.
  virtual void abort_step() noexcept = 0;
};

}  // namespace dovetail
