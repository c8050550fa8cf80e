// Signals as flags that the run looks at, with a bound on how long it may take to look.
#pragma once

#include <atomic>
#include <chrono>
#include <csignal>
#include <optional>
#include <string>
#include <thread>

#include "framework/base/error.hpp"

namespace dovetail {

/// SIGTERM or SIGINT came: flush and end.
class Interrupted : public RunError {
 public:
  using RunError::RunError;
};

/// SIGUSR1 asks for a graceful stop after the current iteration. SIGTERM and SIGINT ask for an end
/// at once: where the process has not ended 0.4 s later, or at the second such signal, it is ended
/// with exit code 128 + signal. One a process, made in main before MPI and before any other thread:
/// it blocks the signals in the calling thread, later threads inherit that, and a thread of its own
/// takes them. Programs started from here inherit the blocked signals, too.
class SignalWatch {
 public:
  SignalWatch();
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;
  SignalWatch(SignalWatch&&) = delete;
  SignalWatch& operator=(SignalWatch&&) = delete;

  /// SIGUSR1 came. Any thread.
  bool stop_requested() const noexcept { return stop_requested_; }

  /// SIGTERM or SIGINT came. Any thread.
  bool interrupt_requested() const noexcept { return interrupt_signal_ != 0; }

  /// "interrupted by SIGINT"; empty unless interrupt_requested(). Any thread.
  std::string describe_interrupt() const;

  /// Throws Interrupted, naming the signal, once interrupt_requested(). Any thread; one atomic
  /// load.
  void poll() const;

 private:
  using Clock = std::chrono::steady_clock;

  void watch();
  int next_signal(const std::optional<Clock::time_point>& deadline) const;

  sigset_t signals_{};
  sigset_t previous_mask_{};
  std::atomic<bool> stop_requested_{false};
  std::atomic<int> interrupt_signal_{0};
  std::atomic<bool> done_{false};
  std::thread thread_;  // last: it uses the fields above
};

}  // namespace dovetail
