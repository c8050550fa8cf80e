#include "framework/mpi/start_limit.hpp"

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>
#include <unistd.h>

#include "framework/base/error.hpp"
#include "framework/base/log.hpp"

namespace dovetail {

std::chrono::seconds read_start_limit(const char* text) {
  if (text == nullptr) {
    return kDefaultStartLimit;
  }
  const std::string_view digits = text;
  int seconds = 0;
  const auto [end, problem] =
      std::from_chars(digits.data(), digits.data() + digits.size(), seconds);
  if (problem != std::errc() || end != digits.data() + digits.size() || seconds < 1 ||
      seconds > 86400) {
    throw InputError(std::string(kStartLimitVariable) + ": '" + text +
                     "'; allowed: whole seconds from 1 to 86400");
  }
  return std::chrono::seconds(seconds);
}

StartLimit::StartLimit(std::chrono::seconds limit, int process)
    : thread_([this, limit, process] { watch(limit, process); }) {}

StartLimit::~StartLimit() {
  done();
  thread_.join();
}

void StartLimit::done() {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
  }
  changed_.notify_all();
}

void StartLimit::watch(std::chrono::seconds limit, int process) {
  constexpr std::chrono::milliseconds between_ranks{500};
  constexpr int last_turn = 4;
  std::unique_lock lock(mutex_);
  if (changed_.wait_for(
          lock, limit + std::min(process, last_turn) * between_ranks, [this] { return done_; })) {
    return;
  }
  log_line("the start of the ranks was not done in " + std::to_string(limit.count()) +
           " s: a rank is stopped, or its host is lost or slow; " + kStartLimitVariable +
           " is the bound in seconds");
  _exit(kExitRunFailure);
}

}  // namespace dovetail
