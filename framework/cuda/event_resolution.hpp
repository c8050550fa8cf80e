// What the time between two CUDA events is worth.
#pragma once

#include <cmath>
#include <limits>

namespace dovetail {

/// "A resolution of approximately 0.5 microseconds": CUDA Runtime API, cudaEventElapsedTime.
inline constexpr double kEventResolutionNs = 500;

/// Bound of the error of a time of that length between two events: their resolution, and half the
/// spacing of float32 milliseconds, in which CUDA gives it (0.5 us at 10 s).
inline double event_error_ns(double elapsed_ns) {
  const auto ms = static_cast<float>(std::abs(elapsed_ns) / 1e6);
  const auto next = std::nextafter(ms, std::numeric_limits<float>::infinity());
  return kEventResolutionNs + (static_cast<double>(next) - static_cast<double>(ms)) * 1e6 / 2;
}

}  // namespace dovetail
