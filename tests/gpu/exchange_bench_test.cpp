// What `dovetail bench exchange` calls right and wrong on GPUs: ceilings that move nothing, stores
// and loads that nobody answers, and graphs whose experts stay where they were.
#include <chrono>

#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/comm/exchange/bench/bench_check.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/config/comm_sms.hpp"
#include "framework/mpi/collectives.hpp"
#include "tests/gpu/gpu_test.hpp"
#include "tests/mpi/exchange_driver.hpp"
#include "tests/support/passing_exchange.hpp"

namespace dovetail::test {
namespace {

constexpr int kBenchSms[] = {4, 8};
constexpr std::int64_t kBlockBytes = 4096;
constexpr std::int64_t kTokens = 300;

std::int64_t over_ranks(std::int64_t mine) {
  std::int64_t values[] = {mine};
  all_reduce(session().world(), values, Reduction::sum, {.timeout = std::chrono::seconds(15)});
  return values[0];
}

void meet(BenchDevice& device) {
  device.wait();
  over_ranks(0);
}

TEST(ExchangeBenchGpu, EachCeilingIsBelievedForWhatItMovedItself) {
  DOVETAIL_REQUIRE_GPU();
  if (world_size() == 1) {
    GTEST_SKIP() << "one rank moves nothing";
  }
  const auto device = make_gpu_bench_device(session(), WaitPolicy{});
  const auto come = [&] { meet(*device); };
  const auto ceilings = device->ceilings(kBlockBytes, kBenchSms);
  ASSERT_GE(ceilings.size(), std::size(kBenchSms));
  for (const auto& ceiling : ceilings) {
    SCOPED_TRACE(ceiling.name + ", SMs " + std::to_string(ceiling.comm_sms));
    EXPECT_EQ(wrong_words_of(ceiling, come), 0);
    auto idle = ceiling;
    idle.move = [] {};
    EXPECT_EQ(wrong_words_of(idle, come), kBlockBytes / 4 * (world_size() - 1));
  }
  come();  // nobody's memory goes while a peer may still use it
}

class ExchangeBenchUnanswered : public ::testing::TestWithParam<std::string> {};

TEST_P(ExchangeBenchUnanswered, IsToldOf) {
  DOVETAIL_REQUIRE_GPU();
  const auto device = make_gpu_bench_device(session(), {.timeout = std::chrono::seconds(3)});
  for (const auto& ceiling : device->ceilings(kBlockBytes, kBenchSms)) {
    if (ceiling.name != GetParam() || world_size() == 1) {
      continue;
    }
    if (session().rank().value == 0) {
      ceiling.move();
      device->wait();
      EXPECT_THROW(ceiling.check_status(), RunError);
    } else {
      EXPECT_NO_THROW(ceiling.check_status());
    }
    break;  // what has given up does nothing more
  }
  meet(*device);
}

INSTANTIATE_TEST_SUITE_P(Kernels,
                         ExchangeBenchUnanswered,
                         ::testing::Values("(put)", "(get)"),
                         [](const auto& each) { return each.param.substr(1, 3); });

class ExchangeBenchGraph : public ::testing::TestWithParam<std::string> {};

TEST_P(ExchangeBenchGraph, ExpertsThatStayWhereTheyWereInAReplayAreCounted) {
  DOVETAIL_REQUIRE_GPU();
  const c10::InferenceMode inference;
  const auto device = make_gpu_bench_device(session(), WaitPolicy{});
  const ExchangeShape shape = {.ep_size = world_size(),
                               .ep_rank = session().rank().value,
                               .num_experts = 8 * world_size(),
                               .top_k = 4,
                               .hidden = 64,
                               .dtype = at::kBFloat16};
  std::unique_ptr<Exchange> exchange;
  try {
    exchange = make_exchange(GetParam(), /*on_gpu=*/true, shape, device->setting(kBenchSms));
  } catch (const InputError& error) {
    GTEST_SKIP() << error.what();
  }
  const std::int64_t bounds[] = {kTokens};
  exchange->buffers().begin_step(bounds, kBenchSms[0]);
  FrozenOffsets frozen(*exchange);
  for (Exchange* const one : {exchange.get(), static_cast<Exchange*>(&frozen)}) {
    BenchPass layer(*one, shape, /*num_groups=*/1);
    const auto tokens = [&](std::uint64_t seed) {
      return make_bench_tokens(BenchRouting::balanced, shape, kTokens, seed, device->device());
    };
    auto in = tokens(1);
    for (const bool captured : {false, true}) {
      const auto wrong = wrong_words_of(
          layer,
          *device,
          captured,
          in,
          [&] { return tokens(captured ? 3 : 2); },
          [&] { meet(*device); });
      exchange->buffers().check_step();
      // The first pass over the twin is eager and freezes what is right for it.
      if (captured) {
        EXPECT_EQ(over_ranks(wrong) > 0, one == &frozen);
      }
    }
  }
  meet(*device);
}

INSTANTIATE_TEST_SUITE_P(All,
                         ExchangeBenchGraph,
                         ::testing::ValuesIn(built_exchanges(/*on_gpu=*/true, GraphMode::full)),
                         [](const auto& suite) { return suite.param; });

}  // namespace
}  // namespace dovetail::test
