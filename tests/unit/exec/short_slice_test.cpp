#include "framework/exec/short_slice.hpp"

#include <array>
#include <cstdint>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

namespace dovetail {
namespace {

constexpr std::uint64_t kShortSliceNs = 100'000;

/// The slice of the calling thread as the kernel tells it; 0 where it does not.
std::uint64_t slice_ns() {
  std::array<std::uint64_t, 6> attributes{};  // runtime is the fourth number of eight bytes
  if (syscall(SYS_sched_getattr, 0L, attributes.data(), sizeof(attributes), 0U) != 0) {
    return 0;
  }
  return attributes[3];
}

TEST(ShortSlice, ChangesTheCallingThreadOnlyAndNothingButItsSlice) {
  const std::uint64_t before = slice_ns();
  std::uint64_t inside = 0;
  int policy = -1;
  int nice_before = -100;
  int nice_after = -100;
  std::thread([&] {
    nice_before = getpriority(PRIO_PROCESS, 0);
    ask_for_short_slices();
    inside = slice_ns();
    policy = sched_getscheduler(0);
    nice_after = getpriority(PRIO_PROCESS, 0);
  }).join();
  EXPECT_EQ(slice_ns(), before) << "another thread's slice";
  EXPECT_EQ(policy, sched_getscheduler(0));
  EXPECT_EQ(nice_after, nice_before);
  if (before == 0) {
    GTEST_SKIP() << "this kernel has no custom slices";
  }
  EXPECT_EQ(inside, kShortSliceNs);
  EXPECT_NE(before, kShortSliceNs);
}

TEST(ShortSlice, LeavesOtherSchedulingPoliciesAlone) {
  std::thread([] {
    sched_param parameters{};
    ASSERT_EQ(sched_setscheduler(0, SCHED_BATCH, &parameters), 0);
    ask_for_short_slices();
    EXPECT_EQ(sched_getscheduler(0), SCHED_BATCH);
  }).join();
}

}  // namespace
}  // namespace dovetail
