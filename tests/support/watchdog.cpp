#include "tests/support/watchdog.hpp"

#include "framework/base/log.hpp"
#include "framework/mpi/abort.hpp"

namespace dovetail::test {

void cut(const std::string& line) {
  log_line(line);
  abort_world(1);
}

Watchdog::Watchdog(std::chrono::steady_clock::time_point deadline)
    : thread_([this, deadline] { watch(deadline); }) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void Watchdog::enter(const std::string& place, std::chrono::seconds grace) {
  const std::lock_guard lock(mutex_);
  place_ = place;
  grace_ = grace;
}

void Watchdog::watch(std::chrono::steady_clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  while (!done_) {
    const auto end = deadline + grace_;
    if (std::chrono::steady_clock::now() < end) {
      wake_.wait_until(lock, end);
      continue;
    }
    cut("no end within the time limit: hangs in " + place_);
  }
}

}  // namespace dovetail::test
