// The runner: walks a schedule over an executor, with one persistent thread per ubatch or inline,
// from the same schedule.
#pragma once

#include <chrono>
#include <memory>

#include "framework/base/types.hpp"
#include "framework/exec/executor.hpp"
#include "framework/exec/op_times.hpp"
#include "framework/exec/step_body.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// How long the thread that is next in line spins where it has a core of its own: longer than an
/// exchange op takes to enqueue, shorter than what a sleeping thread would notice.
inline constexpr std::chrono::microseconds kShortSpin{50};
/// The same where compute is not on these cores: longer than any op takes to enqueue.
inline constexpr std::chrono::microseconds kLongSpin{2'000};

struct RunnerOptions {
  HandOff hand_off = HandOff::threads;
  std::chrono::milliseconds timeout{60'000};  ///< bound of every wait in a step
  /// How long the thread that is next in line spins; 0 = it sleeps. Above 0 only where the rank has
  /// a spare core.
  std::chrono::nanoseconds next_spin = kShortSpin;
  /// All threads of a step run on the core on which run() was called, one after the other, so that
  /// each finds there in the caches what the others left: for ops that are short and start no
  /// threads (those would inherit the core). Nobody spins then.
  bool on_one_core = false;

  std::chrono::nanoseconds baton_spin() const {
    return on_one_core ? std::chrono::nanoseconds{0} : next_spin;
  }
};

/// Owns the ubatch threads. Not copyable; one step at a time; `run` is called from the main thread
/// only.
class Runner {
 public:
  /// `executor` outlives the runner. Threads are made on first need and kept. The destructor joins
  /// them; one that a timed-out step left inside an op gets one more time-out, then it is left
  /// behind, and body and executor must live until the process ends.
  Runner(Executor& executor, RunnerOptions options);
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;
  Runner(Runner&&) = delete;
  Runner& operator=(Runner&&) = delete;

  /// Runs one step to its end. Ops are enqueued in the schedule's order, exactly one thread at a
  /// time. Throws the first failure as OpError (ubatch, layer, phase named) after all threads are
  /// parked again and the executor is idle; the runner can be used again. TimeoutError names the op
  /// that was waited for. After a TimeoutError a thread may still be inside an op (a body that
  /// waits without a deadline): schedule, body and times must then live until a later run() gets
  /// through; until then run() throws TimeoutError. An Error with an exit code other than 3 keeps
  /// its type of failure (see op_failure.hpp).
  void run(const Schedule& schedule,
           StepBody& body,
           PassKind pass = PassKind::full,
           OpTimes* times = nullptr);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;  ///< shared with the threads: one that is stuck may outlive us
};

}  // namespace dovetail
