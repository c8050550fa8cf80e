// What ends a process that reads a damaged file, and what it must not explain.
#include "framework/record/damage_guard.hpp"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

const std::string kFile = "folder/rank-0000.h5: /config";

void crash() {
  // No null pointer, which UBSan sees; and the compiler must not know.
  static int* volatile nowhere = reinterpret_cast<int*>(64);
  *nowhere = 1;  // NOLINT(clang-analyzer-core.NullDereference): on purpose
}

/// Uses up the stack. `depth` keeps the compiler from making a loop of it.
int descend(int depth) {  // NOLINT(misc-no-recursion)
  volatile char room[4096];
  room[0] = static_cast<char>(depth);
  return depth < 0 ? 0 : descend(depth + 1) + room[0];
}

void work_without_end() {
  volatile bool go_on = true;
  while (go_on) {
  }
}

void guarded(const std::function<void()>& work) {
  damage_guard_ms = 100;
  const DamageGuard guard(kFile);
  work();
}

TEST(DamageGuard, NamesTheFileOfACrash) {
  const auto ends = ::testing::ExitedWithCode(kExitBadInput);
  const std::string line = "^dovetail: " + kFile + ": HDF5 crashed when it read this";
  EXPECT_EXIT(guarded(crash), ends, line);
  EXPECT_EXIT(guarded([] { std::abort(); }), ends, line);
#if !defined(__SANITIZE_ADDRESS__)  // has a stack of its own for handlers
  EXPECT_EXIT(guarded([] { descend(0); }), ends, line);
#endif
}

TEST(DamageGuard, NamesTheFileThatIsReadWithoutEnd) {
  EXPECT_EXIT(guarded(work_without_end),
              ::testing::ExitedWithCode(kExitBadInput),
              "^dovetail: " + kFile + ": HDF5 came to no end");
}

TEST(DamageGuard, TheOuterOneNames) {
  EXPECT_EXIT(guarded([] {
                {
                  const std::string inner = "inner";
                  const DamageGuard guard(inner);
                }
                crash();
              }),
              ::testing::ExitedWithCode(kExitBadInput),
              kFile);
}

#if !defined(__SANITIZE_ADDRESS__)  // which reports crashes in its own way
TEST(DamageGuard, ExplainsNothingElse) {
  const auto killed = ::testing::KilledBySignal(SIGSEGV);
  EXPECT_EXIT(
      {
        guarded([] {});
        crash();
      },
      killed,
      "^$");
  EXPECT_EXIT(guarded([] {
                std::thread(crash).detach();
                std::this_thread::sleep_for(std::chrono::seconds(10));
              }),
              killed,
              "^$");
}
#endif

TEST(DamageGuard, TakesTheTimeOfEachReadAlone) {
  for (int i = 0; i < 4; ++i) {
    guarded([] {
      const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(40);
      while (std::chrono::steady_clock::now() < end) {
      }
    });
  }
}

}  // namespace
}  // namespace dovetail
