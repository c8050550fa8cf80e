#include "framework/mpi/clock.hpp"

#include <array>
#include <limits>
#include <memory>

#include "framework/base/clock.hpp"
#include "framework/mpi/check.hpp"

namespace dovetail {
namespace {

constexpr int kMostTrips = 50;
constexpr int kLeastTrips = 5;
constexpr std::int64_t kLongestNs = 2'000'000;  ///< a rank, once it has the least
constexpr int kPingTag = 1;
constexpr int kPongTag = 2;

struct Messages {
  std::int64_t is_last = 0;  ///< the question
  std::int64_t time_ns = 0;  ///< the answer
};

// Rank 0: tells `peer` the time, as often as it asks.
void serve(const MpiComm& comm,
           int peer,
           const WaitPolicy& policy,
           const std::function<std::int64_t()>& now_ns) {
  auto messages = std::make_unique<Messages>();
  while (messages->is_last == 0) {
    MPI_Request request = MPI_REQUEST_NULL;
    DOVETAIL_MPI(
        MPI_Irecv(&messages->is_last, 1, MPI_INT64_T, peer, kPingTag, comm.raw(), &request));
    wait_owning(messages, request, policy, "clock: wait for a rank to ask");
    messages->time_ns = now_ns();
    DOVETAIL_MPI(
        MPI_Isend(&messages->time_ns, 1, MPI_INT64_T, peer, kPongTag, comm.raw(), &request));
    wait_owning(messages, request, policy, "clock: answer");
  }
}

}  // namespace

ClockOffset estimate_clock_offset(const MpiComm& comm, const WaitPolicy& policy) {
  return estimate_clock_offset(comm, policy, now_ns);
}

ClockOffset estimate_clock_offset(const MpiComm& comm,
                                  const WaitPolicy& policy,
                                  const std::function<std::int64_t()>& now_ns) {
  if (comm.rank() == 0) {
    for (int peer = 1; peer < comm.size(); ++peer) {
      serve(comm, peer, policy, now_ns);
    }
    return {.at_ns = now_ns()};
  }
  ClockOffset best = {.error_bound_ns = std::numeric_limits<std::int64_t>::max()};
  auto messages = std::make_unique<Messages>();
  const std::int64_t began_ns = now_ns();
  for (int trip = 1; messages->is_last == 0; ++trip) {
    std::array<MPI_Request, 2> requests{};
    DOVETAIL_MPI(
        MPI_Irecv(&messages->time_ns, 1, MPI_INT64_T, 0, kPongTag, comm.raw(), requests.data()));
    const std::int64_t sent_ns = now_ns();
    const bool is_enough = trip >= kLeastTrips && sent_ns - began_ns > kLongestNs;
    messages->is_last = trip == kMostTrips || is_enough ? 1 : 0;
    DOVETAIL_MPI(
        MPI_Isend(&messages->is_last, 1, MPI_INT64_T, 0, kPingTag, comm.raw(), &requests[1]));
    wait_owning(messages, requests[1], policy, "clock: ask rank 0");
    wait_owning(messages, requests[0], policy, "clock: rank 0's answer");
    const std::int64_t received_ns = now_ns();
    const std::int64_t half_ns = (received_ns - sent_ns + 1) / 2;
    if (half_ns < best.error_bound_ns) {
      best = {sent_ns + half_ns, sent_ns + half_ns - messages->time_ns, half_ns};
    }
  }
  return best;
}

}  // namespace dovetail
