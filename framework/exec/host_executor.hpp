// The executor of CPU ranks: the compute lane is the calling thread, the comm lane one worker
// thread that runs exchange ops in order, so that overlap on the CPU is real.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "framework/exec/executor.hpp"
#include "framework/exec/lane_edges.hpp"
#include "framework/exec/op_board.hpp"

namespace dovetail {

struct HostExecutorOptions {
  std::chrono::milliseconds timeout{60'000};  ///< bound of every wait for the comm lane
  /// Called once in every thread that runs ops, before its first op: with the ubatch, -1 in the
  /// main thread, kCommThread in the comm worker. May be empty. What it throws fails the step.
  std::function<void(int)> thread_init;
  /// Called when a step is aborted, before waiting for the op that the worker is in: makes that op
  /// give up (an exchange stops polling), so that a failure does not take a whole time-out. Any
  /// thread; must not throw; may be empty.
  std::function<void()> cancel_comm;
  bool may_spin = true;  ///< a thread that waits for the other lane looks for some microseconds
                         ///< before it sleeps; set it only where the rank has a spare core
  /// Called at the beginning of a step with the edges of its pass: a fault that is injected may
  /// change which ops wait. Main thread. May be empty.
  std::function<void(const Schedule&, PassKind, LaneEdges&)> change_edges;
  OpBoard* board = nullptr;  ///< is told of each op; null = nobody is
};

/// Compute ops run inside enqueue(), comm ops on the worker. The worker is made at the first step
/// that has comm ops; schedules without them never touch it.
///
/// After a TimeoutError a body may still be inside an op: body, schedule and times must then live
/// until a later begin_step() or abort_step() has found the worker idle, or until the process ends.
/// If the worker is still inside an op when the executor is destroyed, the destructor waits for
/// `timeout`, says so and leaves the thread behind.
class HostExecutor final : public Executor {
 public:
  static constexpr int kCommThread = -2;

  explicit HostExecutor(HostExecutorOptions options);
  ~HostExecutor() override;
  HostExecutor(const HostExecutor&) = delete;
  HostExecutor& operator=(const HostExecutor&) = delete;
  HostExecutor(HostExecutor&&) = delete;
  HostExecutor& operator=(HostExecutor&&) = delete;

  void enter_thread(int ubatch) override;
  void begin_step(const Schedule& schedule, StepBody& body, PassKind pass, OpTimes* times) override;
  void enqueue(int index) override;
  void end_step() override;
  void abort_step() noexcept override;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;  ///< shared with the worker: if it is stuck it may outlive us
};

}  // namespace dovetail
