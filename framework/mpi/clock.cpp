#include "framework/mpi/clock.hpp"

#include <array>
#include <limits>
#include <memory>

#include "framework/base/clock.hpp"
#include "framework/mpi/check.hpp"

namespace dovetail {
namespace {

constexpr int kRounds = 50;
constexpr int kPingTag = 1;
constexpr int kPongTag = 2;

struct Answer {
  std::int64_t time_ns = 0;
};

// Rank 0: tells `peer` the time, as often as it asks.
void serve(const MpiComm& comm,
           int peer,
           const WaitPolicy& policy,
           const std::function<std::int64_t()>& now_ns) {
  auto answer = std::make_unique<Answer>();
  for (int round = 0; round < kRounds; ++round) {
    MPI_Request request = MPI_REQUEST_NULL;
    DOVETAIL_MPI(MPI_Irecv(nullptr, 0, MPI_CHAR, peer, kPingTag, comm.raw(), &request));
    wait_owning(answer, request, policy, "clock: wait for a rank to ask");
    answer->time_ns = now_ns();
    DOVETAIL_MPI(MPI_Isend(&answer->time_ns, 1, MPI_INT64_T, peer, kPongTag, comm.raw(), &request));
    wait_owning(answer, request, policy, "clock: answer");
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
    return {};
  }
  ClockOffset best{0, std::numeric_limits<std::int64_t>::max()};
  auto answer = std::make_unique<Answer>();
  for (int round = 0; round < kRounds; ++round) {
    std::array<MPI_Request, 2> requests{};
    DOVETAIL_MPI(
        MPI_Irecv(&answer->time_ns, 1, MPI_INT64_T, 0, kPongTag, comm.raw(), requests.data()));
    const std::int64_t sent_ns = now_ns();
    DOVETAIL_MPI(MPI_Isend(nullptr, 0, MPI_CHAR, 0, kPingTag, comm.raw(), &requests[1]));
    wait_owning(answer, requests[1], policy, "clock: ask rank 0");
    wait_owning(answer, requests[0], policy, "clock: rank 0's answer");
    const std::int64_t received_ns = now_ns();
    const std::int64_t half_ns = (received_ns - sent_ns + 1) / 2;
    if (half_ns < best.error_bound_ns) {
      best = {sent_ns + half_ns - answer->time_ns, half_ns};
    }
  }
  return best;
}

}  // namespace dovetail
