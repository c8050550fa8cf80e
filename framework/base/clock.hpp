// The clock that all times are measured with.
#pragma once

#include <chrono>
#include <cstdint>

namespace dovetail {

/// Nanoseconds of the monotonic clock (CLOCK_MONOTONIC, std::chrono::steady_clock): comparable
/// between processes of one host.
inline std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace dovetail
