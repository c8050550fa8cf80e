// Puts the ranks' clocks on one line, for timelines that show several ranks.
#pragma once

#include <cstdint>
#include <functional>

#include "framework/mpi/comm.hpp"
#include "framework/mpi/wait.hpp"

namespace dovetail {

/// How this rank's monotonic clock (std::chrono::steady_clock) stands to that of rank 0.
struct ClockOffset {
  std::int64_t offset_ns = 0;       ///< this rank's clock minus rank 0's
  std::int64_t error_bound_ns = 0;  ///< |true offset - offset_ns| is at most this
};

/// The quickest of about 50 round trips to rank 0 gives the offset, half of it the bound (the
/// method of Cristian, "Probabilistic clock synchronization", 1989). Rank 0 gets {0, 0}. Collective
/// over `comm`; a few milliseconds a rank. Throws as wait_all does.
ClockOffset estimate_clock_offset(const MpiComm& comm, const WaitPolicy& policy);

/// The same for any clock that counts nanoseconds.
ClockOffset estimate_clock_offset(const MpiComm& comm,
                                  const WaitPolicy& policy,
                                  const std::function<std::int64_t()>& now_ns);

}  // namespace dovetail
