// Bounded waits for non-blocking MPI calls: poll, sleep shortly, look at the clock, let others be
// heard. After start-up nothing blocks inside MPI.
#pragma once

#include <chrono>
#include <functional>
#include <span>
#include <string_view>

#include <mpi.h>

namespace dovetail {

struct WaitPolicy {
  std::chrono::milliseconds timeout{60'000};
  std::chrono::microseconds sleep{20};  ///< between polls, after a short spin
  std::function<void()>
      on_poll;  ///< called about once a millisecond; throws to end the wait (peer failure, signal)
};

/// Returns when all requests are complete (they are then MPI_REQUEST_NULL). Any thread; the
/// requests belong to the caller. Throws TimeoutError "<what>: not done within <timeout>" at the
/// deadline, RunError on an MPI error, or what on_poll throws; the requests are then still pending
/// and their buffers must stay alive until the process ends.
void wait_all(std::span<MPI_Request> requests, const WaitPolicy& policy, std::string_view what);

}  // namespace dovetail
