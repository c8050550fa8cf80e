#include "framework/exec/runner.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>

#include "framework/base/check.hpp"
#include "framework/base/clock.hpp"
#include "framework/base/error.hpp"
#include "framework/base/log.hpp"
#include "framework/exec/baton.hpp"
#include "framework/exec/op_failure.hpp"
#include "framework/exec/parker.hpp"
#include "framework/exec/thread_place.hpp"

namespace dovetail {

struct Runner::Impl : std::enable_shared_from_this<Impl> {
  Impl(Executor& step_executor, RunnerOptions runner_options)
      : executor(step_executor),
        options(runner_options),
        baton(runner_options.timeout, runner_options.baton_spin()) {}

  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kTimeToPark{500};  ///< of threads after a standstill

  /// One ubatch's thread. `asked` and `done` count steps: main raises asked, the thread follows.
  struct Worker {
    Parker parker;
    std::thread thread;
    std::atomic<std::uint64_t> asked{0};
    std::atomic<std::uint64_t> done{0};
    bool entered = false;  ///< used by the thread only
  };

  Executor& executor;
  const RunnerOptions options;
  Baton baton;
  std::array<Worker, kMaxUbatches> workers;
  Parker main_parker;
  std::atomic<bool> stop{false};
  bool main_entered = false;
  bool threads_stuck = false;  ///< an earlier step timed out and left a thread inside an op
  ThreadPlace place;

  // One step; written by main while all threads are parked.
  const Schedule* schedule = nullptr;
  OpTimes* times = nullptr;
  std::int64_t released_ns = 0;  ///< when the baton was last passed; handed on with it
  std::mutex error_mutex;
  std::exception_ptr first_error;  ///< guarded by error_mutex, as is the next
  bool is_standstill = false;      ///< first_error only says that nothing moved

  int num_ops() const { return static_cast<int>(schedule->ops.size()); }

  const Op& op(int index) const { return schedule->ops[static_cast<std::size_t>(index)]; }

  /// Keeps the first error. One that says only that nothing moved gives way to what the thread
  /// that did not move then reports.
  void record_error(const std::exception_ptr& error, bool standstill) noexcept {
    {
      const std::lock_guard<std::mutex> lock(error_mutex);
      if (!first_error || (is_standstill && !standstill)) {
        first_error = error;
        is_standstill = standstill;
      }
    }
    baton.poison();
  }

  void note_times(int index, bool changed_thread) const {
    const auto i = static_cast<std::size_t>(index);
    times->enqueued_ns[i] = now_ns();
    times->hand_off_wait_ns[i] = changed_thread ? times->enqueued_ns[i] - released_ns : 0;
  }

  /// In a catch block: what an executor threw names the op, except our own time-outs and broken
  /// promises, which name ops in their text. `at` = -1: no op was being enqueued.
  [[noreturn]] void rethrow_named(int at) const {
    try {
      throw;
    } catch (const Error&) {
      throw;
    } catch (...) {
      if (at < 0) {
        throw;
      }
      rethrow_from_op(op(at));
    }
  }

  void enter(int ubatch) const {
    try {
      executor.enter_thread(ubatch);
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      std::throw_with_nested(
          OpError({-1, ubatch, -1, ""}, std::string("thread start: ") + error.what()));
    }
  }

  void walk_ubatch(int ubatch, bool& entered) noexcept {
    bool waiting = false;
    int enqueuing = -1;
    try {
      if (!entered) {
        enter(ubatch);
        entered = true;
      }
      for (int i = 0; i < num_ops(); ++i) {
        if (op(i).ubatch != ubatch) {
          continue;
        }
        waiting = true;
        if (!baton.acquire(i)) {
          return;
        }
        waiting = false;
        if (times != nullptr) {
          note_times(i, i > 0 && op(i - 1).ubatch != ubatch);
        }
        enqueuing = i;
        executor.enqueue(i);
        enqueuing = -1;
        if (times != nullptr) {
          released_ns = now_ns();
        }
        baton.pass(i);
      }
    } catch (...) {
      try {
        rethrow_named(enqueuing);
      } catch (...) {
        record_error(std::current_exception(), waiting);
      }
    }
  }

  void serve(int ubatch) noexcept {
    Worker& self = workers[static_cast<std::size_t>(ubatch)];
    std::uint64_t seen = 0;
    for (;;) {
      self.parker.wait_idle([&] { return stop.load() || self.asked.load() != seen; });
      if (self.asked.load() == seen) {
        return;
      }
      ++seen;
      walk_ubatch(ubatch, self.entered);
      self.done.store(seen);
      main_parker.wake();
    }
  }

  bool all_parked() const {
    return std::all_of(workers.begin(), workers.end(), [](const Worker& worker) {
      return worker.done.load() == worker.asked.load();
    });
  }

  bool wait_parked(std::chrono::milliseconds time) {
    return main_parker.wait([this] { return all_parked(); }, 0, Clock::now() + time);
  }

  /// Waits for the threads as long as ops are passed on: `timeout` counts from the last one.
  void wait_for_step() {
    const auto look = options.timeout / 16 + std::chrono::milliseconds{1};
    int seen = baton.position();
    auto deadline = Clock::now() + options.timeout;
    while (!wait_parked(look)) {
      const int now = baton.position();
      if (now != seen && now != Baton::kPoisoned) {
        seen = now;
        deadline = Clock::now() + options.timeout;
      }
      if (Clock::now() >= deadline) {
        end_standstill(now);
        return;
      }
    }
  }

  /// Gives the threads a moment to park: what the one says that did not move comes about now, too.
  void end_standstill(int at) {
    if (at != Baton::kPoisoned) {
      const TimeoutError error("no progress for " + std::to_string(options.timeout.count()) +
                               " ms; the baton is held for " +
                               (at < num_ops() ? describe_op(at, op(at)) : "the last op"));
      record_error(std::make_exception_ptr(error), true);
    }
    threads_stuck = !wait_parked(std::min(options.timeout, kTimeToPark));
  }

  void start_threads(int num_threads) {
    for (int u = 0; u < num_threads; ++u) {
      std::thread& thread = workers[static_cast<std::size_t>(u)].thread;
      if (thread.joinable()) {
        continue;
      }
      try {
        thread = std::thread([self = shared_from_this(), u] { self->serve(u); });
        place.forget();
      } catch (const std::system_error& error) {
        throw RunError("cannot start the thread of ubatch " + std::to_string(u) + ": " +
                       error.what());
      }
    }
  }

  void walk_threads() {
    if (options.on_one_core) {
      place.follow_caller(workers);
    }
    baton.start(*schedule);
    for (int u = 0; u < schedule->num_ubatches; ++u) {
      Worker& worker = workers[static_cast<std::size_t>(u)];
      worker.asked.fetch_add(1);
      worker.parker.wake();
    }
    wait_for_step();
    const std::lock_guard<std::mutex> lock(error_mutex);
    if (first_error) {
      std::rethrow_exception(first_error);
    }
  }

  void walk_inline() {
    if (!main_entered) {
      enter(-1);
      main_entered = true;
    }
    int i = 0;
    try {
      for (; i < num_ops(); ++i) {
        if (times != nullptr) {
          note_times(i, false);
        }
        executor.enqueue(i);
      }
    } catch (...) {
      rethrow_named(i);
    }
  }

  /// After a failed step: the executor may only be touched when no thread is inside it.
  void abort() noexcept {
    if (threads_stuck) {
      log_line("a ubatch thread is still inside an op after a failed step");
    } else {
      executor.abort_step();
    }
  }

  /// Waits for threads that an earlier, timed-out step left inside an op.
  void recover() {
    if (!threads_stuck) {
      return;
    }
    if (!wait_parked(options.timeout)) {
      throw TimeoutError("a ubatch thread is still inside an op of an earlier step");
    }
    threads_stuck = false;
    executor.abort_step();
  }
};

Runner::Runner(Executor& executor, RunnerOptions options)
    : impl_(std::make_shared<Impl>(executor, options)) {}

Runner::~Runner() {
  impl_->stop.store(true);
  const bool leaves_behind = impl_->threads_stuck && !impl_->wait_parked(impl_->options.timeout);
  if (leaves_behind) {
    log_line("a ubatch thread is still inside an op; its thread is left behind");
  }
  for (auto& worker : impl_->workers) {
    if (worker.thread.joinable()) {
      worker.parker.wake();
      leaves_behind ? worker.thread.detach() : worker.thread.join();
    }
  }
}

void Runner::run(const Schedule& schedule, StepBody& body, PassKind pass, OpTimes* times) {
  Impl& impl = *impl_;
  DOVETAIL_CHECK(schedule.num_ubatches >= 1 && schedule.num_ubatches <= kMaxUbatches,
                 "num_ubatches = " + std::to_string(schedule.num_ubatches));
  impl.recover();
  if (impl.options.hand_off == HandOff::threads) {
    impl.start_threads(schedule.num_ubatches);
  }
  impl.schedule = &schedule;
  impl.times = times;
  impl.first_error = nullptr;
  if (times != nullptr) {
    times->reset(schedule.ops.size());
  }
  try {
    impl.executor.begin_step(schedule, body, pass, times);
    if (impl.options.hand_off == HandOff::threads) {
      impl.walk_threads();
    } else {
      impl.walk_inline();
    }
    impl.executor.end_step();
  } catch (...) {
    impl.abort();
    throw;
  }
}

}  // namespace dovetail
