#include "framework/mpi/signals.hpp"

#include <chrono>
#include <string>
#include <unistd.h>

namespace dovetail {
namespace {

constexpr std::chrono::milliseconds kTimeToFlush{400};

const char* name_of(int signal) {
  return signal == SIGINT ? "SIGINT" : "SIGTERM";
}

}  // namespace

SignalWatch::SignalWatch() {
  sigemptyset(&signals_);
  for (const int signal : {SIGUSR1, SIGTERM, SIGINT}) {
    sigaddset(&signals_, signal);
  }
  if (pthread_sigmask(SIG_BLOCK, &signals_, &previous_mask_) != 0) {
    throw RunError("the signals SIGUSR1, SIGTERM and SIGINT cannot be blocked");
  }
  thread_ = std::thread([this] { watch(); });
}

SignalWatch::~SignalWatch() {
  done_ = true;
  pthread_kill(thread_.native_handle(), SIGUSR1);  // wakes the watcher only
  thread_.join();
  pthread_sigmask(SIG_SETMASK, &previous_mask_, nullptr);
}

std::string SignalWatch::describe_interrupt() const {
  const int signal = interrupt_signal_;
  if (signal == 0) {
    return "";
  }
  return std::string("interrupted by ") + name_of(signal) +
         (signal == SIGTERM ? ", which mpirun sends at Ctrl-C, too" : "");
}

void SignalWatch::poll() const {
  if (interrupt_requested()) {
    throw Interrupted(describe_interrupt());
  }
}

// The next signal; 0 where none came before the deadline (none yet: waits for ever).
int SignalWatch::next_signal(const std::optional<Clock::time_point>& deadline) const {
  for (;;) {
    int signal = 0;
    if (!deadline) {
      signal = sigwaitinfo(&signals_, nullptr);
    } else {
      const auto left =
          std::chrono::duration_cast<std::chrono::nanoseconds>(*deadline - Clock::now());
      if (left.count() <= 0) {
        return 0;
      }
      const timespec timeout{0, left.count()};
      signal = sigtimedwait(&signals_, nullptr, &timeout);
    }
    if (signal > 0) {
      return signal;
    }
  }
}

void SignalWatch::watch() {
  std::optional<Clock::time_point> deadline;  // of the flush
  while (!done_) {
    const int signal = next_signal(deadline);
    if (done_) {
      return;
    }
    if (signal == SIGUSR1) {
      stop_requested_ = true;
    } else if (const int first = interrupt_signal_; first != 0) {
      _exit(128 + first);  // no end in time, or asked for again
    } else {
      interrupt_signal_ = signal;
      deadline = Clock::now() + kTimeToFlush;
    }
  }
}

}  // namespace dovetail
