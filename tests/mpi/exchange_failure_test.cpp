// What the MPI back ends do when a peer is late: bounded waits that name it, and nothing that a
// message in flight could still write to is freed.
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/mpi/check.hpp"
#include "tests/mpi/exchange_driver.hpp"

namespace dovetail::test {
namespace {

class ExchangeFailure : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    last_ = group_.size - 1;
    shape_ = group_.shape(2, group_.size * 2);
    batch_ = make_batch(shape_,
                        std::vector<std::int64_t>(static_cast<std::size_t>(group_.size), 3),
                        Routing::uniform,
                        Weights::random,
                        fresh_seed());
  }

  void prepare(Exchange& exchange) {
    const auto in = to_tensors(batch_, group_.rank);
    exchange.prepare(0, in);
  }

  /// Runs call, which must time out; returns the message.
  template <class Call>
  std::string timeout_of(Call call) {
    try {
      call();
    } catch (const TimeoutError& error) {
      return error.what();
    }
    ADD_FAILURE() << "no TimeoutError";
    return "";
  }

  /// All ranks but the last one combine.
  void expect_combine_to_wait_for(const std::string& content) {
    const auto exchange = group_.make(GetParam(), shape_);
    prepare(*exchange);
    exchange->dispatch(0, 0);
    const auto rows = exchange->arrange(0, 0);
    exchange->reduce(0, 0, rows.rows);
    if (group_.rank != last_) {
      const auto message = timeout_of([&] { exchange->combine(0, 0); });
      EXPECT_NE(message.find("combine of ubatch 0"), std::string::npos) << message;
      EXPECT_NE(message.find(content + " from " + late()), std::string::npos) << message;
    }
  }

  void meet() const {
    MPI_Request request = MPI_REQUEST_NULL;
    DOVETAIL_MPI(MPI_Ibarrier(group_.counts_comm.raw(), &request));
    wait_all({&request, 1}, {.timeout = std::chrono::seconds(10), .on_poll = {}}, "all ranks");
  }

  std::string late() const { return "ep rank " + std::to_string(last_); }

  TestGroup group_{std::chrono::milliseconds(300)};
  int last_ = 0;
  ExchangeShape shape_;
  GroupBatch batch_;
};

TEST_P(ExchangeFailure, PeerThatNeverDispatchesIsNamed) {
  const auto exchange = group_.make(GetParam(), shape_);
  prepare(*exchange);
  if (group_.rank != last_) {
    const auto message = timeout_of([&] { exchange->dispatch(0, 0); });
    EXPECT_NE(message.find("dispatch of ubatch 0 on ep rank " + std::to_string(group_.rank)),
              std::string::npos)
        << message;
    const auto blame = message.find("waiting for");
    ASSERT_NE(blame, std::string::npos) << message;
    EXPECT_NE(message.find("rows from " + late(), blame), std::string::npos) << message;
    for (int r = 0; r < last_; ++r) {  // the others are not to blame
      EXPECT_EQ(message.find("rank " + std::to_string(r), blame), std::string::npos) << message;
    }
    EXPECT_THROW(exchange->arrange(0, 0), RunError);
    EXPECT_THROW(prepare(*exchange), RunError);
  }
}

TEST_P(ExchangeFailure, PeerThatNeverPreparesIsNamed) {
  const auto exchange = group_.make(GetParam(), shape_);
  if (group_.rank != last_) {
    prepare(*exchange);
    const auto message = timeout_of([&] { exchange->dispatch(0, 0); });
    EXPECT_NE(message.find("counts from " + late()), std::string::npos) << message;
    EXPECT_GE(exchange->meter().traffic().counts_wait_ns, 0);
  }
}

TEST_P(ExchangeFailure, PeerThatNeverCombinesIsNamed) {
  expect_combine_to_wait_for("partial sums");
}

TEST_P(ExchangeFailure, PeerThatNeverCombinesInBatchInvariantIsNamed) {
  shape_.sum_order = SumOrder::by_choice;
  expect_combine_to_wait_for("expert rows");
}

// Rows too large to be sent eagerly: the sends stay pending, too, and their buffers must outlive
// the exchange.
TEST_P(ExchangeFailure, LargeMessagesInFlightSurviveTheExchange) {
  shape_.hidden = 1 << 18;
  batch_ = make_batch(shape_,
                      std::vector<std::int64_t>(static_cast<std::size_t>(group_.size), 3),
                      Routing::uniform,
                      Weights::random,
                      fresh_seed());
  {
    const auto exchange = group_.make(GetParam(), shape_);
    prepare(*exchange);
    if (group_.rank != last_) {
      const auto message = timeout_of([&] { exchange->dispatch(0, 0); });
      EXPECT_NE(message.find("rows to be taken by " + late()), std::string::npos) << message;
    }
  }
  meet();
  // The late peer takes the rows now that the exchanges are gone; they must still be there.
  if (group_.rank == last_) {
    const auto count = static_cast<std::size_t>(3 * shape_.hidden);
    for (int source = 0; source < last_; ++source) {
      std::vector<float> rows(count);
      MPI_Request request = MPI_REQUEST_NULL;
      DOVETAIL_MPI(MPI_Irecv(rows.data(),
                             static_cast<int>(count),
                             MPI_FLOAT,
                             source,
                             1,
                             group_.exchange_comm.raw(),
                             &request));
      wait_all({&request, 1}, {.timeout = std::chrono::seconds(10), .on_poll = {}}, "late rows");
      EXPECT_EQ(rows, batch_.ranks[static_cast<std::size_t>(source)].hidden);
    }
  }
  meet();  // sends make progress only while their rank is inside MPI
}

TEST_P(ExchangeFailure, PollHookEndsTheWait) {
  group_.policy.timeout = std::chrono::seconds(10);
  group_.policy.on_poll = [] { throw RunError("rank 7 failed"); };
  const auto exchange = group_.make(GetParam(), shape_);
  prepare(*exchange);
  if (group_.rank != last_) {
    try {
      exchange->dispatch(0, 0);
      ADD_FAILURE() << "no exception";
    } catch (const RunError& error) {
      EXPECT_STREQ(error.what(), "rank 7 failed");
    }
    EXPECT_THROW(exchange->dispatch(0, 0), RunError);
  }
}

INSTANTIATE_TEST_SUITE_P(BackEnds,
                         ExchangeFailure,
                         ::testing::ValuesIn(built_exchanges(/*on_gpu=*/false)),
                         [](const auto& suite) { return suite.param; });

}  // namespace
}  // namespace dovetail::test
