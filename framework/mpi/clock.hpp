// Puts the ranks' clocks on one line, for timelines that show several ranks.
#pragma once

#include <cstdint>
#include <functional>

#include "framework/mpi/comm.hpp"
#include "framework/mpi/wait.hpp"

namespace dovetail {

/// How this rank's monotonic clock (std::chrono::steady_clock) stands to that of rank 0.
struct ClockOffset {
  std::int64_t at_ns = 0;           ///< on this rank's clock, when it stood so
  std::int64_t offset_ns = 0;       ///< this rank's clock minus rank 0's
  std::int64_t error_bound_ns = 0;  ///< |true offset - offset_ns| is at most this
};

/// The quickest of 50 round trips to rank 0 gives the offset, half of it the bound (the method of
/// Cristian, "Probabilistic clock synchronization", 1989). Where ranks are slow to answer, as with
/// more ranks than cores, at least 5 trips in 2 ms. Rank 0 gets an offset and a bound of 0.
/// Collective over `comm`, one rank after the other. Throws as wait_all does.
ClockOffset estimate_clock_offset(const MpiComm& comm, const WaitPolicy& policy);

/// The same for any clock that counts nanoseconds.
ClockOffset estimate_clock_offset(const MpiComm& comm,
                                  const WaitPolicy& policy,
                                  const std::function<std::int64_t()>& now_ns);

}  // namespace dovetail
