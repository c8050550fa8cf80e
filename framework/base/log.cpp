#include "framework/base/log.hpp"

#include <atomic>
#include <unistd.h>

namespace dovetail {
namespace {

std::atomic<int> log_rank{-1};

}  // namespace

void set_log_rank(int rank) {
  log_rank.store(rank);
}

void log_line(std::string_view message) noexcept {
  try {
    const int rank = log_rank.load();
    std::string line = rank < 0 ? "dovetail: " : "dovetail[rank " + std::to_string(rank) + "]: ";
    line += message;
    line += '\n';
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
  } catch (...) {  // out of memory while reporting: nothing better can be done
  }
}

}  // namespace dovetail
