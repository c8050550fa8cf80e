// Tells a process in which nothing at all goes on from one that is busy in its own way.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

#include "framework/exec/op_board.hpp"

namespace dovetail {

/// Looked at by one thread, again and again; limit and waits by any. Time in which that thread
/// itself was stopped counts for nothing.
class Standstill {
 public:
  using Clock = std::chrono::steady_clock;

  /// Without one (the beginning) nothing is looked at.
  void set_limit(std::optional<std::chrono::milliseconds> limit) {
    limit_ms_ = limit ? limit->count() : kNoLimit;
  }

  /// A thread of this process waits, bounded.
  void note_wait();

  /// How long nothing has gone on: no op and no activity begun, no wait, no core used by another
  /// thread than the caller's, nothing read or written; zero unless that is longer than the limit.
  std::chrono::milliseconds look(const OpBoard& board);

 private:
  struct Progress {
    std::int64_t activity_ns = 0;
    std::int64_t cpu_ns = 0;    ///< of all threads but the caller's
    std::int64_t io_bytes = 0;  ///< in calls to the system, by all threads
  };

  static constexpr std::int64_t kNoLimit = -1;

  Progress measure(const OpBoard& board);

  std::atomic<std::int64_t> limit_ms_{kNoLimit};
  std::atomic<std::int64_t> waited_ns_{0};
  // Of the thread that looks.
  Clock::time_point next_look_{};
  Clock::time_point last_look_{};
  Progress last_;
  std::int64_t own_io_bytes_ = 0;  ///< read by the looks themselves
  Clock::duration still_{0};
};

}  // namespace dovetail
