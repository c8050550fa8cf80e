// Bounded waits for non-blocking MPI calls: poll, sleep shortly, look at the clock, let others be
// heard. After start-up nothing blocks inside MPI.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include <mpi.h>

namespace dovetail {

/// A scope in which this thread must not communicate: a wait inside of it is a ContractError. What
/// runs there may fail on one rank alone, and its peers would wait for a rank that does not come.
class LocalScope {
 public:
  LocalScope();
  ~LocalScope();
  LocalScope(const LocalScope&) = delete;
  LocalScope& operator=(const LocalScope&) = delete;
  LocalScope(LocalScope&&) = delete;
  LocalScope& operator=(LocalScope&&) = delete;
};

/// Throws ContractError in a LocalScope of this thread. Every collective and every wait begins with
/// it.
void require_may_communicate(std::string_view what);

struct WaitPolicy {
  std::chrono::milliseconds timeout{60'000};
  std::chrono::microseconds sleep{20};  ///< between polls, after a short spin, at most 500; up to
                                        ///< twice as long in long waits
  int late_share = 2048;                ///< in still longer ones: the wait over this, at most 2 ms
  std::function<void()>
      on_poll;  ///< called about once a millisecond; throws to end the wait (peer failure, signal)
};

/// Returns when all requests are complete (they are then MPI_REQUEST_NULL). Any thread; the
/// requests belong to the caller. Throws TimeoutError "<what>: not done within <timeout>" at the
/// deadline, RunError on an MPI error, ContractError in a LocalScope, or what on_poll throws; the
/// requests are then still pending and their buffers must stay alive until the process ends.
void wait_all(std::span<MPI_Request> requests, const WaitPolicy& policy, std::string_view what);

/// wait_all for one request whose buffers `owner` holds. Where the wait throws, MPI may still write
/// to them, so they are left allocated until the process ends.
template <class Buffers>
void wait_owning(std::unique_ptr<Buffers>& owner,
                 MPI_Request& request,
                 const WaitPolicy& policy,
                 std::string_view what) {
  try {
    wait_all({&request, 1}, policy, what);
  } catch (...) {
    static_cast<void>(owner.release());
    throw;
  }
}

/// As `wait`, for the stages in which ranks legitimately wait for one another's disk: ten minutes
/// at least.
WaitPolicy patient(const WaitPolicy& wait);

}  // namespace dovetail
