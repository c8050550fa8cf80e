// What the failure channel says inside the processes; how jobs end with it: end_tests.cmake.
#include "framework/mpi/failure.hpp"

#include <chrono>
#include <thread>

#include <gtest/gtest.h>

#include "framework/mpi/check.hpp"
#include "framework/mpi/collectives.hpp"
#include "tests/support/mpi_world.hpp"

namespace dovetail::test {
namespace {

WaitPolicy bounded(FailureChannel& channel) {
  return {.timeout = std::chrono::milliseconds(10'000), .on_poll = [&] { channel.poll(); }};
}

TEST(Failure, SilenceIsNoFailure) {
  const MpiComm control = session().world();
  FailureChannel channel(control);
  for (int i = 0; i < 100; ++i) {
    EXPECT_NO_THROW(channel.poll());
  }
}

// The last rank fails; all others are in a collective that it never joins.
TEST(Failure, FreesPeersAndOwnThreads) {
  const MpiComm control = session().world();
  const MpiComm traffic = session().world();
  const MpiComm end = session().world();
  const int failing = world_size() - 1;
  FailureChannel channel(control);
  if (world_rank() == failing) {
    channel.report(kExitBadInput, "expected line of a test: this rank fails");
    channel.report(kExitRunFailure, "NEVER PRINTED: second report");
  }
  try {
    if (world_rank() == failing) {
      channel.poll();
    } else {
      std::int64_t value = 0;
      all_reduce(traffic, {&value, 1}, Reduction::sum, bounded(channel));
    }
    ADD_FAILURE() << "not freed";
  } catch (const PeerFailure& error) {
    EXPECT_EQ(error.rank(), Rank(failing));
    EXPECT_EQ(error.job_exit_code(), kExitBadInput);
    EXPECT_EQ(error.exit_code(), kExitRunFailure);
  }
  EXPECT_THROW(channel.poll(), PeerFailure);  // for ever
  if (world_rank() != failing) {
    channel.report(kExitRunFailure, "NEVER PRINTED: a consequence");
  }
  DOVETAIL_MPI(MPI_Barrier(end.raw()));
  // The collective above needs its last member before its communicator can go.
  if (world_rank() == failing) {
    std::int64_t value = 0;
    MPI_Request request = MPI_REQUEST_NULL;
    std::int64_t sum = 0;
    DOVETAIL_MPI(MPI_Iallreduce(&value, &sum, 1, MPI_INT64_T, MPI_SUM, traffic.raw(), &request));
    DOVETAIL_MPI(MPI_Wait(&request, MPI_STATUS_IGNORE));
  }
  DOVETAIL_MPI(MPI_Barrier(end.raw()));
}

TEST(Failure, AnEmptyReportTellsNobodyElse) {
  const MpiComm control = session().world();
  const MpiComm end = session().world();
  FailureChannel channel(control);
  if (world_rank() == 0) {
    channel.report(kExitBadInput, "");
    EXPECT_THROW(channel.poll(), PeerFailure);
  }
  DOVETAIL_MPI(MPI_Barrier(end.raw()));  // a message would be here by now: one pair, in order
  if (world_rank() != 0) {
    EXPECT_NO_THROW(channel.poll());
  }
}

}  // namespace
}  // namespace dovetail::test
