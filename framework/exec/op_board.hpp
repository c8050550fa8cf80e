// What the threads of a rank do now, for the report of a run that fails or hangs: written by the
// threads themselves, read by a thread that looks on.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "framework/base/types.hpp"
#include "framework/exec/rank_state.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// The last op begun and ended of each lane and ubatch, and what the main thread is at. One a
/// process; outlives all threads that write to it. Writing costs some relaxed stores.
class OpBoard {
 public:
  OpBoard() = default;
  ~OpBoard();
  OpBoard(const OpBoard&) = delete;
  OpBoard& operator=(const OpBoard&) = delete;
  OpBoard(OpBoard&&) = delete;
  OpBoard& operator=(OpBoard&&) = delete;

  /// The calling thread begins an op, or has ended it. An op that throws is left open: it is where
  /// the rank has come to. Any thread; one op of a lane and ubatch at a time.
  void begin(const Op& op);
  void end(const Op& op);

  /// The main thread is at this activity, a literal: "a timed step"; of this iteration and step, -1
  /// = of none.
  void set_activity(const char* activity, int iteration = -1, int step = -1);

  /// The calling thread waits for others, bounded; said again about each millisecond while it
  /// does. Counts for the op that the thread has begun last, or for the main thread's activity.
  static void note_wait();

  /// A picture of all. Any thread. What is written meanwhile may be in it in part.
  RankState look() const;

  /// When an op was last begun or ended, a wait said that it lasts or the main thread began an
  /// activity; 0 = never. Any thread.
  std::int64_t last_activity_ns() const;

  /// Fills in what share of a core the threads of open ops that do not wait have used over some
  /// 100 ms, for those that are open for more than a second. Blocks for that time.
  void measure_cpu_use(RankState& state) const;

 private:
  struct Slot {
    std::atomic<std::int64_t> begun_ns{0};  ///< 0 = no op yet; written last in begin()
    std::atomic<std::int64_t> ended_ns{0};
    std::atomic<std::int64_t> waited_ns{0};  ///< when the thread said last that it waits
    std::atomic<int> layer{kNoLayer};
    std::atomic<int> phase{0};
    std::atomic<int> group{kNoGroup};
    std::atomic<int> cpu_clock{0};  ///< clockid_t of the thread
  };

  Slot& slot(const Op& op);

  std::array<std::array<Slot, kMaxUbatches>, 2> slots_;  ///< [lane, ubatch]
  Slot main_;
  std::atomic<const char*> activity_{""};
  std::atomic<int> iteration_{-1};
  std::atomic<int> step_{-1};
};

}  // namespace dovetail
