// The baton: the index of the next op. A thread waits until that op is its own, enqueues it and
// passes on, so exactly one thread enqueues at a time and the order is the schedule's.
#pragma once

#include <array>
#include <atomic>
#include <chrono>

#include "framework/base/types.hpp"
#include "framework/exec/parker.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// States: position p in [0, number of ops] = op p is next and its ubatch's thread holds the baton
/// (at the end nobody does), or poisoned, which is final until the next start(). Only the holder
/// moves p to p + 1; anybody may poison.
///
/// While op i - 1 is being enqueued by another thread, the thread of op i is the next in line: it
/// is woken early and spins for a while, if it may. All other threads sleep, because threads
/// that spin beyond the number of cores keep the holder from running. A thread whose spins were in
/// vain (the op takes long, or the holder waits for this very core) leaves out the next ones, twice
/// as many each time.
class Baton {
 public:
  /// `timeout`: a thread gives up when no op at all was passed on for that long. `next_spin`: for
  /// how long the next in line spins; 0 = it sleeps.
  Baton(std::chrono::milliseconds timeout, std::chrono::nanoseconds next_spin);

  /// Sets the baton before op 0. No thread may be in acquire(). The schedule outlives the step.
  void start(const Schedule& schedule);

  /// Called by the thread of the op's ubatch (at most one thread a ubatch). True: op `index` is
  /// next and the caller holds the baton. False: the baton is poisoned. Throws TimeoutError that
  /// names the op waited for and the op that holds the baton.
  bool acquire(int index);

  /// The holder passes on after op `index`. Does nothing when poisoned.
  void pass(int index) noexcept;

  /// Wakes every waiter; all acquire() return false from now on.
  void poison() noexcept;

  /// The index of the next op, the number of ops at the end, or kPoisoned.
  int position() const { return position_.load(std::memory_order_seq_cst); }

  static constexpr int kPoisoned = -1;

 private:
  int owner(int index) const { return schedule_->ops[static_cast<std::size_t>(index)].ubatch; }

  /// What the thread of one ubatch needs to wait.
  struct Slot {
    Parker parker;
    std::atomic<bool> wants_early_wake{false};  ///< a hint: it would spin as the next in line
    int spins_to_skip = 0;                      ///< used by the thread only, as is the next
    int last_skip = 0;
  };

  Slot& slot(int ubatch) { return slots_[static_cast<std::size_t>(ubatch)]; }

  /// Spins while op index - 1 is being enqueued; adapts the slot's later spins to the outcome.
  void spin(Slot& slot, int index) const;

  std::array<Slot, kMaxUbatches> slots_;
  alignas(64) std::atomic<int> position_{0};
  int num_ops_ = 0;
  const Schedule* schedule_ = nullptr;
  const std::chrono::milliseconds timeout_;
  const std::chrono::nanoseconds next_spin_;
};

}  // namespace dovetail
