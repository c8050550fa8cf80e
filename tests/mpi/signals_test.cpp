// Signals become flags; a process that does not listen is ended.
#include "framework/mpi/signals.hpp"

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

namespace dovetail {
namespace {

bool soon(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) {
      return false;
    }
    std::this_thread::yield();
  }
  return true;
}

bool blocked(int signal) {
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  return sigismember(&mask, signal) == 1;
}

TEST(Signals, Usr1AsksForAStop) {
  const SignalWatch signals;
  EXPECT_FALSE(signals.stop_requested());
  ::kill(getpid(), SIGUSR1);
  EXPECT_TRUE(soon([&] { return signals.stop_requested(); }));
  EXPECT_FALSE(signals.interrupt_requested());
  EXPECT_NO_THROW(signals.poll());
}

TEST(Signals, TheMaskIsRestored) {
  EXPECT_FALSE(blocked(SIGTERM));
  {
    const SignalWatch signals;
    EXPECT_TRUE(blocked(SIGTERM));
    EXPECT_TRUE(blocked(SIGINT));
    EXPECT_TRUE(blocked(SIGUSR1));
    bool in_thread = false;
    std::thread([&] { in_thread = blocked(SIGTERM); }).join();
    EXPECT_TRUE(in_thread);
  }
  EXPECT_FALSE(blocked(SIGTERM));
}

// In a child process: sends itself the signal, then ends by itself with 7 if poll() throws.
void listen(int signal, const std::string& want) {
  const SignalWatch signals;
  ::kill(getpid(), signal);
  for (;;) {
    try {
      signals.poll();
    } catch (const Interrupted& error) {
      _exit(error.what() == want && signals.interrupt_requested() ? 7 : 8);
    }
  }
}

void do_not_listen(int signal, int times) {
  const SignalWatch signals;
  ::kill(getpid(), signal);
  if (times > 1) {
    soon([&] { return signals.interrupt_requested(); });
    ::kill(getpid(), signal);
  }
  ::kill(getpid(), SIGUSR1);  // must not lengthen the time that is left
  for (;;) {
    std::this_thread::sleep_for(std::chrono::hours(1));
  }
}

TEST(SignalsDeathTest, AnInterruptIsSeenAtAPoll) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(listen(SIGTERM, "interrupted by SIGTERM, which mpirun sends at Ctrl-C, too"),
              ::testing::ExitedWithCode(7),
              "");
  EXPECT_EXIT(listen(SIGINT, "interrupted by SIGINT"), ::testing::ExitedWithCode(7), "");
}

TEST(SignalsDeathTest, WhoDoesNotListenIsEnded) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(do_not_listen(SIGTERM, 1), ::testing::ExitedWithCode(143), "");
  EXPECT_EXIT(do_not_listen(SIGINT, 2), ::testing::ExitedWithCode(130), "");
}

}  // namespace
}  // namespace dovetail
