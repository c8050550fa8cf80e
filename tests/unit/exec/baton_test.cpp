// The baton: order with any owners, poison, time-outs; its states walked through exhaustively from
// one thread.
#include "framework/exec/baton.hpp"

#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

using std::chrono::milliseconds;

constexpr std::chrono::nanoseconds spin_of(bool may_spin) {
  return may_spin ? std::chrono::microseconds(50) : std::chrono::microseconds(0);
}

Schedule owners(const std::vector<int>& ubatches) {
  Schedule schedule{"owners", kMaxUbatches, {}, {}};
  for (const int ubatch : ubatches) {
    schedule.ops.push_back({kNoLayer, ubatch, Phase::embed, Lane::compute, {}});
  }
  return schedule;
}

/// Walks the schedule with a thread for each ubatch; the order in which ops were held.
std::vector<int> walk(Baton& baton, const Schedule& schedule, int num_threads) {
  std::vector<int> held;  // guarded by the baton alone
  baton.start(schedule);
  std::vector<std::thread> threads;
  for (int u = 0; u < num_threads; ++u) {
    threads.emplace_back([&, u] {
      for (int i = 0; i < static_cast<int>(schedule.ops.size()); ++i) {
        if (schedule.ops[static_cast<std::size_t>(i)].ubatch == u && baton.acquire(i)) {
          held.push_back(i);
          baton.pass(i);
        }
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  return held;
}

std::vector<int> count_to(std::size_t n) {
  std::vector<int> numbers(n);
  for (std::size_t i = 0; i < n; ++i) {
    numbers[i] = static_cast<int>(i);
  }
  return numbers;
}

TEST(Baton, KeepsTheOrderOfAnyOwners) {
  std::mt19937_64 random(testing::fresh_seed());
  for (const bool may_spin : {false, true}) {
    Baton baton(std::chrono::seconds(60), spin_of(may_spin));
    for (int round = 0; round < 150; ++round) {
      const int num_threads = 1 + static_cast<int>(random() % kMaxUbatches);
      std::vector<int> ubatches(random() % 60);
      for (auto& ubatch : ubatches) {
        ubatch = static_cast<int>(random() % static_cast<std::uint64_t>(num_threads));
      }
      const Schedule schedule = owners(ubatches);
      ASSERT_EQ(walk(baton, schedule, num_threads), count_to(ubatches.size()));
      EXPECT_EQ(baton.position(), static_cast<int>(ubatches.size()));
    }
  }
}

TEST(Baton, EverySmallPatternOfOwnersInOneRing) {
  // All 3^5 assignments of five ops to three threads: unequal counts, threads without any op.
  for (const bool may_spin : {false, true}) {
    Baton baton(std::chrono::seconds(60), spin_of(may_spin));
    for (int code = 0; code < 243; ++code) {
      std::vector<int> ubatches;
      for (int i = 0, rest = code; i < 5; ++i, rest /= 3) {
        ubatches.push_back(rest % 3);
      }
      const Schedule schedule = owners(ubatches);
      ASSERT_EQ(walk(baton, schedule, 3), count_to(5)) << code;
    }
  }
}

/// The state machine, all sequences of six calls by hand: acquire never waits here, because it is
/// only called where the answer is known.
TEST(Baton, StatesFollowTheModel) {
  const Schedule schedule = owners({0, 1, 0});

  enum Call { kPassNext, kPassStale, kPoison, kRestart, kNumCalls };

  for (int code = 0; code < 4096; ++code) {
    Baton baton(milliseconds(1), spin_of(false));
    baton.start(schedule);
    int model = 0;  // the position, kPoisoned when poisoned
    for (int step = 0, rest = code; step < 6; ++step, rest /= kNumCalls) {
      switch (rest % kNumCalls) {
        case kPassNext:
          if (model >= 0 && model < 3) {
            baton.pass(model);
            ++model;
          } else if (model == Baton::kPoisoned) {
            baton.pass(1);  // a holder that finishes its op after the poison
          }
          break;
        case kPassStale:
          if (model > 0) {
            baton.pass(model - 1);  // not the holder any more: changes nothing
          }
          break;
        case kPoison:
          baton.poison();
          model = Baton::kPoisoned;
          break;
        default:
          baton.start(schedule);
          model = 0;
      }
      ASSERT_EQ(baton.position(), model) << code;
      if (model == Baton::kPoisoned) {
        EXPECT_FALSE(baton.acquire(0));
        EXPECT_FALSE(baton.acquire(2));
      } else if (model < 3) {
        EXPECT_TRUE(baton.acquire(model));
      }
    }
  }
}

TEST(Baton, PoisonWakesAllWaiters) {
  for (const bool may_spin : {false, true}) {
    for (int round = 0; round < 50; ++round) {
      const Schedule schedule = owners({0, 1, 2, 3, 4, 5, 6, 7});
      Baton baton(std::chrono::seconds(60), spin_of(may_spin));
      baton.start(schedule);
      std::atomic<int> refused{0};
      std::vector<std::thread> threads;
      for (int u = 1; u < 8; ++u) {
        threads.emplace_back([&, u] { refused += baton.acquire(u) ? 0 : 1; });
      }
      EXPECT_TRUE(baton.acquire(0));
      baton.poison();
      for (auto& thread : threads) {
        thread.join();
      }
      EXPECT_EQ(refused.load(), 7);
      baton.pass(0);
      EXPECT_EQ(baton.position(), Baton::kPoisoned);
    }
  }
}

TEST(Baton, ATimeoutNamesTheOpAndTheHolder) {
  const Schedule schedule = owners({0, 1, 2});
  Baton baton(milliseconds(20), spin_of(true));
  baton.start(schedule);
  try {
    baton.acquire(2);
    FAIL();
  } catch (const TimeoutError& error) {
    EXPECT_STREQ(error.what(),
                 "no progress for 20 ms while waiting for op 2 (embed, ubatch 2); the baton is "
                 "held for op 0 (embed, ubatch 0)");
  }
}

TEST(Baton, ProgressElsewherePutsTheTimeoutOff) {
  // Op i is passed on only once the waiter has looked at position i, at a time-out or earlier.
  const Schedule schedule = owners({0, 0, 0, 0, 1});
  Baton baton(milliseconds(5), spin_of(false));
  baton.start(schedule);
  std::atomic<bool> got{false};
  std::thread waiter([&] {
    try {
      got.store(baton.acquire(4));
    } catch (const TimeoutError&) {
      got.store(false);  // the machine was slower than the time-out: tried below without one
    }
  });
  for (int i = 0; i < 4; ++i) {
    baton.pass(i);
  }
  waiter.join();
  EXPECT_TRUE(got.load() || baton.position() == 4);
}

}  // namespace
}  // namespace dovetail
