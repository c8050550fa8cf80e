// Which communicator a step's transfers take: the one of its SMs, and no other. The other one has
// been aborted here, so that a transfer over it fails.
#include <algorithm>
#include <optional>
#include <utility>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/config/comm_sms.hpp"
#include "tests/gpu/exchange_facade.hpp"
#include "tests/gpu/gpu_test.hpp"

namespace dovetail::test {
namespace {

class ExchangeCommSms : public ::testing::TestWithParam<std::string> {
 protected:
  static constexpr int kFew = 2;
  static constexpr int kMany = kTestCommSms;  ///< that the facade begins with
  static constexpr std::int64_t kMaxTokens = 9;

  static NcclComm make_comm(int comm_sms) {
    const auto max_ctas = comm_sms == kAllSms ? std::nullopt : std::optional(comm_sms);
    return NcclComm(session().world(), {.max_ctas = max_ctas, .name = "a test's"}, WaitPolicy{});
  }

  ExchangeFacade make(NcclComm& few, NcclComm& many, int few_sms = kFew) const {
    require_reach(GetParam());
    return ExchangeFacade(make_exchange(GetParam(),
                                        /*on_gpu=*/true,
                                        shape_,
                                        {.counts_comm = &group_.counts_comm,
                                         .nccl_comms = {{few_sms, &few}, {kMany, &many}},
                                         .wait = group_.policy,
                                         .world_rank = group_.rank}),
                          shape_,
                          kMaxTokens);
  }

  /// What is wrong with a step over the communicator of `comm_sms`.
  std::string problems(ExchangeFacade& exchange, int comm_sms) const {
    const std::int64_t bounds[] = {kMaxTokens};
    exchange.buffers().begin_step(bounds, comm_sms);
    const auto batch =
        make_batch(shape_,
                   std::vector<std::int64_t>(static_cast<std::size_t>(group_.size), kMaxTokens),
                   Routing::uniform,
                   Weights::random,
                   fresh_seed());
    const auto output = run_pass(exchange, 0, batch, group_.rank).output;
    exchange.buffers().check_step();
    return join_problems(check_output(batch, group_.rank, output));
  }

  TestGroup group_;
  ExchangeShape shape_ = group_.shape(3, std::min(3, group_.size * 3));
};

TEST_P(ExchangeCommSms, AStepTakesTheCommunicatorOfItsSms) {
  DOVETAIL_REQUIRE_GPU();
  if (group_.size == 1) {
    GTEST_SKIP() << "one rank has no communicator";
  }
  auto few = make_comm(kFew);
  auto many = make_comm(kMany);
  {
    auto exchange = make(few, many);
    for (const int comm_sms : {kFew, kMany, kFew}) {
      EXPECT_EQ(problems(exchange, comm_sms), "") << comm_sms << " SMs";
    }
    many.abort();
    EXPECT_EQ(problems(exchange, kFew), "") << "over the one that is well";
    EXPECT_THROW(problems(exchange, kMany), RunError) << "over the one that was aborted";
  }
}

/// Beside a bounded one, as a policy that overlaps has them.
TEST_P(ExchangeCommSms, AStepTakesTheCommunicatorThatNothingBounds) {
  DOVETAIL_REQUIRE_GPU();
  if (group_.size == 1) {
    GTEST_SKIP() << "one rank has no communicator";
  }
  auto all = make_comm(kAllSms);
  auto many = make_comm(kMany);
  auto exchange = make(all, many, kAllSms);
  for (const int comm_sms : {kAllSms, kMany, kAllSms}) {
    EXPECT_EQ(problems(exchange, comm_sms), "") << describe_comm_sms(comm_sms) << " SMs";
    EXPECT_EQ(exchange.buffers().comm_sms(), comm_sms);
  }
}

TEST_P(ExchangeCommSms, ANumberWithoutACommunicatorIsRefused) {
  DOVETAIL_REQUIRE_GPU();
  if (group_.size == 1) {
    GTEST_SKIP() << "one rank has no communicator";
  }
  auto few = make_comm(kFew);
  auto many = make_comm(kMany);
  auto exchange = make(few, many);
  const std::int64_t bounds[] = {kMaxTokens};
  EXPECT_THROW(exchange.buffers().begin_step(bounds, 4), ContractError);
}

INSTANTIATE_TEST_SUITE_P(BackEnds,
                         ExchangeCommSms,
                         ::testing::ValuesIn(built_exchanges(/*on_gpu=*/true)),
                         [](const auto& suite) { return suite.param; });

}  // namespace
}  // namespace dovetail::test
