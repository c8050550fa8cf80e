// Where one thread sleeps until another wakes it: the only blocking wait of the exec folder. Built
// on a futex because a condition variable costs a mutex on both sides and std::atomic waits have no
// deadline.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace dovetail {

/// Tells the core that this thread is spinning.
inline void relax_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// One thread waits at a time; any thread may wake it. Not copyable.
///
/// Contract between both sides: the waker changes the state that `condition` reads and then calls
/// wake(); all of that state is std::atomic, stored and loaded with memory_order_seq_cst. Then
/// either the waiter sees the new state or the waker sees the waiter asleep, so no wake-up is lost.
class Parker {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  Parker() = default;
  Parker(const Parker&) = delete;
  Parker& operator=(const Parker&) = delete;
  Parker(Parker&&) = delete;
  Parker& operator=(Parker&&) = delete;
  ~Parker() = default;

  /// Returns true once condition() holds, false if it does not hold at the deadline. Looks `spins`
  /// times before it sleeps.
  template <class Condition>
  bool wait(const Condition& condition, int spins, Deadline deadline) {
    for (int i = 0; i < spins; ++i) {
      if (condition()) {
        return true;
      }
      relax_cpu();
    }
    for (;;) {
      asleep_.store(1, std::memory_order_seq_cst);
      if (condition()) {
        asleep_.store(0, std::memory_order_seq_cst);
        return true;
      }
      if (!sleep(deadline)) {
        asleep_.store(0, std::memory_order_seq_cst);
        return condition();
      }
    }
  }

  /// As above without a deadline: for threads that have nothing to do between steps.
  template <class Condition>
  void wait_idle(const Condition& condition) {
    while (!wait(condition, 0, std::chrono::steady_clock::now() + std::chrono::hours(1))) {
    }
  }

  /// Wakes the waiter if it sleeps; costs one load otherwise. The waiter looks at its condition
  /// again.
  void wake() noexcept {
    if (asleep_.load(std::memory_order_seq_cst) != 0 &&
        asleep_.exchange(0, std::memory_order_seq_cst) != 0) {
      wake_sleeper();
    }
  }

 private:
  /// False at the deadline.
  bool sleep(Deadline deadline);
  void wake_sleeper() noexcept;

  alignas(64) std::atomic<std::uint32_t> asleep_{0};
};

}  // namespace dovetail
