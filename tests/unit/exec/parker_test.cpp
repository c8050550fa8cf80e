// The parker: no wake-up is lost, deadlines hold.
#include "framework/exec/parker.hpp"

#include <thread>

#include <gtest/gtest.h>

#include "tests/support/sanitized.hpp"

namespace dovetail {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

TEST(Parker, LosesNoWakeUpBetweenTwoThreads) {
  constexpr int num_rounds = testing::kSanitized ? 10'000 : 100'000;
  for (const int spins : {0, 50}) {
    Parker ping;
    Parker pong;
    std::atomic<int> turn{0};
    const auto deadline = [] { return steady_clock::now() + std::chrono::seconds(60); };
    bool all_in_time = true;
    std::thread other([&] {
      for (int i = 0; i < num_rounds; ++i) {
        all_in_time =
            pong.wait([&] { return turn.load() == 2 * i + 1; }, spins, deadline()) && all_in_time;
        turn.store(2 * i + 2);
        ping.wake();
      }
    });
    for (int i = 0; i < num_rounds; ++i) {
      turn.store(2 * i + 1);
      pong.wake();
      ASSERT_TRUE(ping.wait([&] { return turn.load() == 2 * i + 2; }, spins, deadline()));
    }
    other.join();
    EXPECT_TRUE(all_in_time);
  }
}

TEST(Parker, ReturnsFalseAtTheDeadlineAndNotBefore) {
  Parker parker;
  const auto deadline = steady_clock::now() + milliseconds(20);
  EXPECT_FALSE(parker.wait([] { return false; }, 10, deadline));
  EXPECT_GE(steady_clock::now(), deadline);
  EXPECT_FALSE(parker.wait([] { return false; }, 0, steady_clock::now() - milliseconds(1)));
  EXPECT_TRUE(parker.wait([] { return true; }, 0, steady_clock::now() - milliseconds(1)));
}

TEST(Parker, LooksAgainAfterAWakeThatMeansNothing) {
  Parker parker;
  std::atomic<bool> stop{false};
  std::atomic<bool> ready{false};
  std::atomic<int> looks{0};
  std::thread nuisance([&] {
    while (!stop.load()) {
      parker.wake();
      if (looks.load() > 1000) {
        ready.store(true);
      }
    }
  });
  EXPECT_TRUE(parker.wait(
      [&] {
        looks.fetch_add(1);
        return ready.load();
      },
      0,
      steady_clock::now() + std::chrono::seconds(60)));
  stop.store(true);
  nuisance.join();
}

}  // namespace
}  // namespace dovetail
