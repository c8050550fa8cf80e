// Bounded waits: done, too late, told to stop, failed. Messages go from each rank to itself.
#include "framework/mpi/wait.hpp"

#include <array>
#include <atomic>
#include <functional>
#include <string>
#include <sys/prctl.h>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/mpi/check.hpp"
#include "tests/support/mpi_world.hpp"

namespace dovetail::test {
namespace {

class Wait : public ::testing::Test {
 protected:
  MPI_Request receive(int* value, int tag) const {
    MPI_Request request = MPI_REQUEST_NULL;
    DOVETAIL_MPI(MPI_Irecv(value, 1, MPI_INT, world_rank(), tag, comm_.raw(), &request));
    return request;
  }

  MPI_Request send(const int* values, int count, int tag) const {
    MPI_Request request = MPI_REQUEST_NULL;
    DOVETAIL_MPI(MPI_Isend(values, count, MPI_INT, world_rank(), tag, comm_.raw(), &request));
    return request;
  }

  MpiComm comm_ = session().world();
  WaitPolicy policy_{.timeout = std::chrono::milliseconds(10'000)};
};

template <class Exception>
std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Exception& error) {
    return error.what();
  }
  return "no such exception";
}

TEST_F(Wait, ReturnsWhenAllAreComplete) {
  wait_all({}, policy_, "nothing");
  const std::array<int, 2> sent{11 + world_rank(), 22};
  std::array<int, 2> received{-1, -1};
  std::array<MPI_Request, 4> requests{receive(&received[0], 1),
                                      receive(&received[1], 2),
                                      send(&sent[1], 1, 2),
                                      send(&sent[0], 1, 1)};
  wait_all(requests, policy_, "messages to myself");
  EXPECT_EQ(received, sent);
  for (const MPI_Request request : requests) {
    EXPECT_EQ(request, MPI_REQUEST_NULL);
  }
}

TEST_F(Wait, EndsAtTheDeadlineAndNamesTheWait) {
  int value = -1;
  std::array<MPI_Request, 1> requests{receive(&value, 1)};
  policy_.timeout = std::chrono::milliseconds(20);
  EXPECT_EQ(message_of<TimeoutError>([&] { wait_all(requests, policy_, "rows from rank 5"); }),
            "rows from rank 5: not done within 20 ms");
  EXPECT_NE(requests[0], MPI_REQUEST_NULL);
  // The request is still alive and can be completed.
  const int sent = 7;
  std::array<MPI_Request, 2> both{requests[0], send(&sent, 1, 1)};
  policy_.timeout = std::chrono::milliseconds(10'000);
  wait_all(both, policy_, "late message");
  EXPECT_EQ(value, 7);
}

TEST_F(Wait, OthersAreHeardMeanwhile) {
  int value = -1;
  std::array<MPI_Request, 2> requests{receive(&value, 1), MPI_REQUEST_NULL};
  const int sent = 9;
  int calls = 0;
  policy_.on_poll = [&] {
    if (++calls == 3) {
      requests[1] = send(&sent, 1, 1);
    }
  };
  wait_all(requests, policy_, "message");
  EXPECT_EQ(value, 9);
  EXPECT_GE(calls, 3);
}

TEST_F(Wait, OnPollMayEndIt) {
  int value = -1;
  std::array<MPI_Request, 1> requests{receive(&value, 1)};
  policy_.on_poll = [] { throw RunError("a peer has failed"); };
  EXPECT_EQ(message_of<RunError>([&] { wait_all(requests, policy_, "message"); }),
            "a peer has failed");
  DOVETAIL_MPI(MPI_Cancel(requests.data()));
  wait_all(requests, WaitPolicy{}, "cancelled receive");
}

TEST_F(Wait, ReportsMpiErrors) {
  if (world_size() == 1) {
    return;  // Open MPI cuts a long message to oneself without a word
  }
  const int next = (world_rank() + 1) % world_size();
  const int previous = (world_rank() + world_size() - 1) % world_size();
  const std::array<int, 2> sent{1, 2};
  int value = -1;
  std::array<MPI_Request, 2> requests{};
  DOVETAIL_MPI(MPI_Irecv(&value, 1, MPI_INT, previous, 1, comm_.raw(), requests.data()));
  DOVETAIL_MPI(MPI_Isend(sent.data(), 2, MPI_INT, next, 1, comm_.raw(), &requests[1]));
  EXPECT_EQ(message_of<RunError>([&] { wait_all(requests, policy_, "too long a message"); }),
            "too long a message: MPI_ERR_TRUNCATE: message truncated");
}

TEST_F(Wait, SleepsExactly) {
  wait_all({}, policy_, "nothing");
  EXPECT_LE(prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0), 1000);
}

TEST_F(Wait, LeavesBuffersAllocatedWhereItThrows) {
  static std::atomic<int> num_alive{0};

  struct Buffers {
    Buffers() { ++num_alive; }

    ~Buffers() { --num_alive; }

    Buffers(const Buffers&) = delete;
    Buffers& operator=(const Buffers&) = delete;
    Buffers(Buffers&&) = delete;
    Buffers& operator=(Buffers&&) = delete;
  };

  {
    auto owner = std::make_unique<Buffers>();
    MPI_Request none = MPI_REQUEST_NULL;
    wait_owning(owner, none, policy_, "nothing");
  }
  EXPECT_EQ(num_alive, 0);
  int late = -1;
  MPI_Request request = MPI_REQUEST_NULL;
  {
    auto owner = std::make_unique<Buffers>();
    request = receive(&late, 1);
    policy_.timeout = std::chrono::milliseconds(1);
    EXPECT_THROW(wait_owning(owner, request, policy_, "late message"), TimeoutError);
  }
  EXPECT_EQ(num_alive, 1);
  const int sent = 5;
  std::array<MPI_Request, 2> both{request, send(&sent, 1, 1)};
  policy_.timeout = std::chrono::milliseconds(10'000);
  wait_all(both, policy_, "late message");
  EXPECT_EQ(late, 5);
}

}  // namespace
}  // namespace dovetail::test
