#include "framework/exec/short_slice.hpp"

#include <cstdint>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace dovetail {
namespace {

/// The kernel's struct sched_attr in its first version; glibc has it from 2.41 on.
struct SchedulingAttributes {
  std::uint32_t size = sizeof(SchedulingAttributes);
  std::uint32_t policy = SCHED_OTHER;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t runtime_ns = 0;  ///< of SCHED_OTHER: the slice, from 0.1 to 100 ms
  std::uint64_t deadline_ns = 0;
  std::uint64_t period_ns = 0;
};

}  // namespace

void ask_for_short_slices() noexcept {
  SchedulingAttributes attributes;
  const long own_thread = 0;
  if (syscall(SYS_sched_getattr, own_thread, &attributes, sizeof(attributes), 0U) != 0 ||
      attributes.policy != SCHED_OTHER) {
    return;  // not ours to change
  }
  attributes.runtime_ns = 100'000;
  static_cast<void>(syscall(SYS_sched_setattr, own_thread, &attributes, 0U));
}

}  // namespace dovetail
