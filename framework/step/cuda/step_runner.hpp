// Runs steps on a GPU: eagerly, or by capturing them once and replaying the graphs.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/cuda/graph_pool.hpp"
#include "framework/cuda/op_gate.hpp"
#include "framework/exec/runner.hpp"
#include "framework/step/cuda/captured_step.hpp"
#include "framework/step/cuda/cuda_executor.hpp"

namespace dovetail {

/// Made and called in the main thread only; one step at a time. Every wait is bounded by the
/// executor's time-out. After a failure it can be used again, unless the device itself has failed;
/// what a cancelled communicator can still do is the caller's affair.
///
/// Order of destruction: captured steps, then communicators; captured steps and the runner in any
/// order. Bodies outlive the captured steps that name them.
class CudaStepRunner {
 public:
  /// Binds the main thread to the device and readies its handles.
  CudaStepRunner(CudaExecutorOptions executor_options, RunnerOptions runner_options);

  /// For the eager steps and the captures from now on: the lanes of the executor's partition, where
  /// it has one, or of the whole GPU, as at the start. A replay takes those of its capture.
  void use_partition(bool is_cut) { executor_.use_partition(is_cut); }

  /// Enqueues the ops that `pass` runs and waits for their end. `times` may be null; else start and
  /// end of each op by the host's clock: an op starts when its lane has come to it, its waits are
  /// met and the host has come to it, so what the host is late with within the op is part of it.
  /// `gated`, with times: an op that is no exchange starts only once all of it is enqueued, so
  /// there is no such gap; where that took longer than the gate holds, start and end are -1
  /// (OpGate). Its times are taken twice there, by time stamps and by events, and by how much these
  /// differ is part of clock_alignment().error_ns.
  void run_eager(
      const Schedule& schedule, StepBody& body, PassKind pass, OpTimes* times, bool gated = false);

  /// No part of the step: ahead of run_eager with times, makes what they are taken by.
  void make_times(const Schedule& schedule) { executor_.make_times(schedule); }

  /// Captures the step; local, and nothing runs. `full`: one graph, enqueued by the runner's
  /// threads or inline. `piecewise`: a graph for each of graph_pieces(), enqueued in this thread,
  /// without what is between them. `instrumented` adds what `times` of a replay are made of: in a
  /// full graph (GraphTimes) and in pieces (EagerTimes) time stamps, and events where these are not
  /// enough. Allocations come from a pool shared with this runner's other graphs and keep their
  /// addresses. Two eager runs of the same step on this runner must have come before: threads
  /// and handles exist then, and what is made on first use. Throws as an eager run does, or
  /// RunError where the body did what a capture forbids; then all is as before and a capture can be
  /// tried again.
  std::unique_ptr<CapturedStep> capture(
      const Schedule& schedule, StepBody& body, PassKind pass, GraphMode mode, bool instrumented);

  /// Launches the step and waits for its end. `full`: one launch. `piecewise`: walks the schedule,
  /// launches each piece at its first op and runs the ops between pieces through the body given to
  /// capture. `times`: only of an instrumented capture; the columns that the runner fills stay -1
  /// for `full`. `gated`: as in run_eager, the ops between pieces.
  void replay(CapturedStep& step, OpTimes* times, bool gated = false);

  /// Whether the host enqueued kernels of a compute op one by one in the last run_eager or replay.
  bool last_enqueued_kernels() const { return last_enqueued_kernels_; }

  /// Host ns from the start of the last run_eager or replay until everything had been enqueued.
  std::int64_t last_enqueue_ns() const { return last_enqueue_ns_; }

  /// Of the last step with times: how device times were put on the host's clock, to what error.
  const ClockAlignment& clock_alignment() const { return executor_.clock_alignment(); }

  /// Of the steps from now on, or of the last replay.
  cudaStream_t compute_stream() const { return executor_.compute_stream(); }

  cudaStream_t comm_stream() const { return executor_.comm_stream(); }

  /// The same, for stream guards.
  const CudaExecutor& executor() const { return executor_; }

 private:
  void capture_full(CapturedStep& step);
  void capture_pieces(CapturedStep& step);
  void instantiate(CapturedStep& step);
  void replay_full(CapturedStep& step, OpTimes* times);
  void replay_pieces(CapturedStep& step, OpTimes* times, bool gated);
  void walk(const Schedule& schedule,
            StepBody& body,
            PassKind pass,
            OpTimes* times,
            CudaExecutor::Flow flow,
            bool gated);

  CudaExecutor executor_;
  std::optional<OpGate> gate_;  ///< made at first use
  GraphPool pool_;
  /// Of failed captures: a thread that a time-out left inside an op may still look at their events.
  std::vector<std::unique_ptr<CapturedStep>> abandoned_;
  Runner runner_;
  std::int64_t last_enqueue_ns_ = 0;
  bool last_enqueued_kernels_ = false;
};

}  // namespace dovetail
