#include "framework/mpi/standstill.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <unistd.h>

#include "framework/base/clock.hpp"

namespace dovetail {
namespace {

constexpr std::chrono::milliseconds kBetweenLooks{250};
/// A look that comes later than this was itself kept from running: the rest of the time says
/// nothing of the others.
constexpr std::chrono::milliseconds kLongestBetween{500};
/// Of a core, below which no thread computes: what threads of libraries take that only wake up.
constexpr int kIdleShare = 100;

std::int64_t time_of(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return time.tv_sec * std::int64_t{1'000'000'000} + time.tv_nsec;
}

std::int64_t number_behind(const char* text, const char* name) {
  const char* found = std::strstr(text, name);
  return found == nullptr ? 0 : std::strtoll(found + std::strlen(name), nullptr, 10);
}

}  // namespace

void Standstill::note_wait() {
  waited_ns_.store(now_ns(), std::memory_order_relaxed);
}

Standstill::Progress Standstill::measure(const OpBoard& board) {
  Progress progress;
  progress.activity_ns = std::max(board.last_activity_ns(), waited_ns_.load());
  progress.cpu_ns = time_of(CLOCK_PROCESS_CPUTIME_ID) - time_of(CLOCK_THREAD_CPUTIME_ID);
  std::array<char, 512> text{};
  const int file = open("/proc/self/io", O_RDONLY | O_CLOEXEC);
  const auto size = file < 0 ? ssize_t{0} : read(file, text.data(), text.size() - 1);
  close(file);
  // Not every file system counts what it reads and writes on its disk, all count the calls.
  progress.io_bytes = -own_io_bytes_;
  for (const char* name : {"rchar: ", "wchar: ", "read_bytes: ", "write_bytes: "}) {
    progress.io_bytes += number_behind(text.data(), name);
  }
  own_io_bytes_ += std::max(size, ssize_t{0});
  return progress;
}

std::chrono::milliseconds Standstill::look(const OpBoard& board) {
  const auto now = Clock::now();
  if (limit_ms_ == kNoLimit) {
    still_ = {};
    return {};
  }
  if (now < next_look_) {
    return {};
  }
  next_look_ = now + kBetweenLooks;
  const auto elapsed = std::min<Clock::duration>(now - last_look_, kLongestBetween);
  last_look_ = now;
  const auto progress = measure(board);
  const auto busy_ns = std::chrono::nanoseconds(elapsed).count() / kIdleShare;
  const bool goes_on = progress.activity_ns != last_.activity_ns ||
                       progress.cpu_ns - last_.cpu_ns > busy_ns ||
                       progress.io_bytes != last_.io_bytes;
  last_ = progress;
  still_ = goes_on ? Clock::duration::zero() : still_ + elapsed;
  const auto still = std::chrono::duration_cast<std::chrono::milliseconds>(still_);
  return still.count() > limit_ms_ ? still : std::chrono::milliseconds{0};
}

}  // namespace dovetail
