#include "framework/exec/parker.hpp"

#include <cerrno>
#include <ctime>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>

namespace dovetail {

static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t),
              "the kernel reads the atomic as a plain word");

bool Parker::sleep(Deadline deadline) {
  // steady_clock is CLOCK_MONOTONIC, which this kind of futex wait takes as an absolute time.
  const auto since_boot = deadline.time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since_boot);
  timespec time{};
  time.tv_sec = seconds.count();
  time.tv_nsec = std::chrono::duration_cast<std::chrono::nanoseconds>(since_boot - seconds).count();
  const auto result = syscall(SYS_futex,
                              &asleep_,
                              FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG,
                              1U,
                              &time,
                              nullptr,
                              FUTEX_BITSET_MATCH_ANY);
  return !(result == -1 && errno == ETIMEDOUT);
}

void Parker::wake_sleeper() noexcept {
  syscall(SYS_futex, &asleep_, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, nullptr, nullptr, 0);
}

}  // namespace dovetail
