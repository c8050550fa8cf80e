// Puts device events on the host's clock.
#pragma once

#include <cstdint>

#include "framework/cuda/event.hpp"

namespace dovetail {

/// The host time (CLOCK_MONOTONIC) of an event, to an error, and by it of all other timing events
/// of the device.
struct ClockAlignment {
  Event base;
  std::int64_t base_ns = 0;
  std::int64_t error_ns =
      -1;  ///< bound: half the bracket and the events' resolution; -1 = none yet

  /// Host time of a timing event of the same device, recorded before the base; to error_ns, plus
  /// the drift of the clocks between the two.
  std::int64_t host_ns(const Event& event) const;

  /// Takes into error_ns what times lose that reach back to `earliest_ns` (a result of host_ns):
  /// the longer the time, the coarser CUDA gives it.
  void widen_error(std::int64_t earliest_ns);
};

/// Records an event on `stream`, which must be idle, between two looks at the host's clock; the
/// tightest of several brackets counts. Blocks for some tens of microseconds.
void align_clock(cudaStream_t stream, ClockAlignment& alignment);

}  // namespace dovetail
