// What the listening thread of a rank looks at: whether anything goes on in its own process, and
// whether another process is still there.
#include "framework/mpi/standstill.hpp"

#include <atomic>
#include <chrono>
#include <csignal>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <gtest/gtest.h>

#include "framework/mpi/peer_processes.hpp"

namespace dovetail::test {
namespace {

constexpr std::chrono::milliseconds kLimit{800};

/// Whether a standstill is seen within some time in which another thread does `work`.
bool is_seen(Standstill& standstill,
             const OpBoard& board,
             const std::function<void()>& work,
             std::chrono::milliseconds within) {
  std::atomic<bool> done{false};
  std::thread worker([&] {
    while (!done) {
      work();
    }
  });
  const auto end = std::chrono::steady_clock::now() + within;
  bool seen = false;
  while (!seen && std::chrono::steady_clock::now() < end) {
    seen = standstill.look(board) > kLimit;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  done = true;
  worker.join();
  return seen;
}

void sleep_shortly() {
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
}

TEST(Standstill, IsSeenWhereNothingGoesOn) {
  OpBoard board;
  Standstill standstill;
  standstill.set_limit(kLimit);
  EXPECT_TRUE(is_seen(standstill, board, sleep_shortly, std::chrono::seconds(20)));
  standstill.set_limit(std::nullopt);
  EXPECT_EQ(standstill.look(board).count(), 0);
}

TEST(Standstill, IsNoneWhereAThreadWaitsComputesOrReads) {
  OpBoard board;
  const std::map<std::string, std::function<void(Standstill&)>> works = {
      {"waits",
       [](Standstill& standstill) {
         standstill.note_wait();
         sleep_shortly();
       }},
      {"begins activities",
       [&](Standstill& /*standstill*/) {
         board.set_activity("a timed step");
         sleep_shortly();
       }},
      {"computes",
       [](Standstill& /*standstill*/) {
         for (std::atomic<int> work{0}; work < 100'000; ++work) {
         }
       }},
      {"reads",
       [](Standstill& /*standstill*/) {
         std::ifstream file("/proc/self/status");
         file.get();
         sleep_shortly();
       }},
  };
  for (const auto& [name, work] : works) {
    Standstill standstill;
    standstill.set_limit(kLimit);
    EXPECT_FALSE(is_seen(
        standstill, board, [&, &act = work] { act(standstill); }, std::chrono::seconds(3)))
        << name;
  }
}

TEST(PeerProcesses, AProcessHasEndedAlsoWhereNobodyHasWaitedForIt) {
  EXPECT_FALSE(has_ended(own_process_place()));
  int channel[2];
  ASSERT_EQ(pipe(static_cast<int*>(channel)), 0);
  const pid_t child = fork();
  if (child == 0) {
    const auto place = own_process_place();
    const auto sent = write(channel[1], &place, sizeof place);
    pause();
    _exit(sent > 0 ? 0 : 1);
  }
  ProcessPlace place;
  ASSERT_EQ(read(channel[0], &place, sizeof place), static_cast<ssize_t>(sizeof place));
  EXPECT_EQ(place.pid, child);
  EXPECT_EQ(place.host, own_process_place().host);
  EXPECT_FALSE(has_ended(place));
  kill(child, SIGKILL);
  while (!has_ended(place)) {  // a zombie from now on; ctest bounds this
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(has_ended(place));
  auto other = own_process_place();
  ++other.start_ticks;  // of an earlier process of this number
  EXPECT_TRUE(has_ended(other));
  close(channel[0]);
  close(channel[1]);
}

}  // namespace
}  // namespace dovetail::test
