// A bound on start-up: a rank that is stopped or lost before it has come up would keep the others
// inside MPI_Init for ever, where nothing of ours can poll.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace dovetail {

/// Names the bound in whole seconds; else it is kDefaultStartLimit.
inline constexpr const char* kStartLimitVariable = "DOVETAIL_START_LIMIT_S";
inline constexpr std::chrono::seconds kDefaultStartLimit{300};

/// From the text of the variable, null = not set. Throws InputError unless it is a whole number
/// from 1 to 86400.
std::chrono::seconds read_start_limit(const char* text);

/// Made in front of MPI, after SignalWatch. Where done() is not called in time the process says so
/// and ends with exit code 3, and the launcher ends the others. Ranks wait a little longer the
/// higher they are, so that one speaks for all.
class StartLimit {
 public:
  /// `process`: the number that the launcher has given, at least 0.
  StartLimit(std::chrono::seconds limit, int process);
  ~StartLimit();
  StartLimit(const StartLimit&) = delete;
  StartLimit& operator=(const StartLimit&) = delete;
  StartLimit(StartLimit&&) = delete;
  StartLimit& operator=(StartLimit&&) = delete;

  /// All ranks are up and connected. May be called again. Any thread.
  void done();

 private:
  void watch(std::chrono::seconds limit, int process);

  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::thread thread_;  // last: it uses the fields above
};

}  // namespace dovetail
