// Ends a test process that hangs: the last thing a stuck rank does is to say where it is stuck.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace dovetail::test {

/// Prints `line` to stderr and ends the whole job with exit code 1. Any thread.
[[noreturn]] void cut(const std::string& line);

/// A thread that cuts the job at `deadline`, naming the test last given to `enter`.
class Watchdog {
 public:
  explicit Watchdog(std::chrono::steady_clock::time_point deadline);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  Watchdog(Watchdog&&) = delete;
  Watchdog& operator=(Watchdog&&) = delete;

  /// Names what runs from now on, and how long after the deadline it is cut. Any thread.
  void enter(const std::string& place, std::chrono::seconds grace = {});

 private:
  void watch(std::chrono::steady_clock::time_point deadline);

  std::mutex mutex_;
  std::condition_variable wake_;
  bool done_ = false;
  std::string place_ = "start-up";
  std::chrono::seconds grace_{};
  std::thread thread_;
};

}  // namespace dovetail::test
