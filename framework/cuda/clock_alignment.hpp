// Puts device events, and time stamps that kernels write, on the host's clock.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

#include "framework/cuda/event.hpp"
#include "framework/cuda/time_stamp_words.hpp"

namespace dovetail {

/// The host time (CLOCK_MONOTONIC) of an event, to an error, and by it of all other timing events
/// of the device.
struct ClockAlignment {
  Event base;
  std::int64_t base_ns = 0;
  std::int64_t error_ns =
      -1;  ///< bound: half the bracket and the events' resolution; -1 = none yet

  // Of align_time_stamps:
  std::uint64_t stamp = 0;    ///< a time stamp
  std::int64_t stamp_ns = 0;  ///< and its host time
  TimeStampWords words;       ///< that it looks at the device's clock with

  /// Host time of a timing event of the same device, recorded before the base; to error_ns, plus
  /// the drift of the clocks between the two.
  std::int64_t host_ns(const Event& event) const;

  /// The same of a time stamp, after align_time_stamps.
  std::int64_t host_ns_of_stamp(std::uint64_t written) const {
    return stamp_ns + static_cast<std::int64_t>(written - stamp);
  }

  /// Takes into error_ns what times lose that reach back to `earliest_ns` (a result of host_ns):
  /// the longer the time, the coarser CUDA gives it.
  void widen_error(std::int64_t earliest_ns);
};

/// Records an event on `stream`, which must be idle, between two looks at the host's clock; the
/// tightest of several brackets counts. Blocks for some tens of microseconds.
void align_clock(cudaStream_t stream, ClockAlignment& alignment);

/// Behind align_clock, for time stamps: a kernel writes one between two events on `stream`, which
/// must be idle; the tightest of several brackets counts. That is tighter than a look at the host's
/// clock before and after, and what counts between time stamps and events: half of it, the events'
/// resolution and the step in which the device's clock moves on are added to error_ns. Blocks for
/// some 200 us. Throws RunError where that clock stands still.
void align_time_stamps(cudaStream_t stream, ClockAlignment& alignment);

}  // namespace dovetail
