// `dovetail bench exchange` on CPU ranks: what it refuses, that every exchange brings right rows in
// every number of groups, and that it counts what is wrong in one group alone.
#include <tuple>
#include <utility>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/comm/exchange/bench/bench_check.hpp"
#include "framework/comm/exchange/bench/bench_options.hpp"
#include "framework/comm/exchange/bench/bench_pass.hpp"
#include "framework/comm/exchange/bench/bench_tokens.hpp"
#include "framework/mpi/collectives.hpp"
#include "tests/mpi/exchange_driver.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/mpi_world.hpp"
#include "tests/support/passing_exchange.hpp"

namespace dovetail::test {
namespace {

constexpr std::int64_t kTokens = 400;

/// Changes the rows that one group receives from other ranks.
class FaultInAGroup final : public PassingExchange {
 public:
  FaultInAGroup(Exchange& inner, Phase phase, int group)
      : PassingExchange(inner), phase_(phase), group_(group) {}

  void prepare(int ubatch, const RoutedTokens& tokens) override {
    harmed_rows_ = 0;
    PassingExchange::prepare(ubatch, tokens);
  }

  void dispatch(int ubatch, int group) override {
    PassingExchange::dispatch(ubatch, group);
    harm(ubatch, group, Phase::dispatch);
  }

  void combine(int ubatch, int group) override {
    PassingExchange::combine(ubatch, group);
    harm(ubatch, group, Phase::combine);
  }

  /// Since the last prepare.
  std::int64_t harmed_rows() const { return harmed_rows_; }

 private:
  void harm(int ubatch, int group, Phase phase) {
    if (phase != phase_ || group != group_) {
      return;
    }
    for (const at::Tensor& rows : buffers().received_rows(ubatch, phase, group)) {
      rows.add_(1);
      harmed_rows_ += rows.size(0);
    }
  }

  Phase phase_;
  int group_;
  std::int64_t harmed_rows_ = 0;
};

std::int64_t over_ranks(std::int64_t mine) {
  std::int64_t values[] = {mine};
  all_reduce(session().world(), values, Reduction::sum, {.timeout = std::chrono::seconds(15)});
  return values[0];
}

class ExchangeBenchGroups : public ::testing::TestWithParam<std::tuple<std::string, int>> {
 protected:
  ExchangeBenchGroups() : shape_(group_.shape(8, 4)) { shape_.hidden = 24; }

  /// Over all ranks, of one pass.
  std::int64_t wrong_words(Exchange& exchange, BenchRouting routing, BenchExperts experts) {
    BenchPass layer(exchange, shape_, std::get<1>(GetParam()));
    const auto seed = fresh_seed();
    const auto before = make_bench_tokens(routing, shape_, kTokens, seed, at::kCPU);
    layer.run(before.routed(), experts);
    const auto in = make_bench_tokens(routing, shape_, kTokens, seed + 1, at::kCPU);
    int marks = 0;
    const auto output = layer.run(in.routed(), experts, [&] { ++marks; });
    EXPECT_EQ(marks, std::ssize(bench_spans(std::get<1>(GetParam()))));
    return over_ranks(count_wrong(in, output, experts == BenchExperts::factors));
  }

  std::unique_ptr<Exchange> make() const { return group_.make(std::get<0>(GetParam()), shape_); }

  TestGroup group_;
  ExchangeShape shape_;
};

TEST_P(ExchangeBenchGroups, NoWordIsWrong) {
  const auto exchange = make();
  for (const auto& name : bench_routing_names()) {
    for (const auto experts : {BenchExperts::none, BenchExperts::factors}) {
      EXPECT_EQ(wrong_words(*exchange, bench_routing(name), experts), 0) << name;
    }
  }
}

TEST_P(ExchangeBenchGroups, WhatIsWrongInOneGroupIsCounted) {
  const auto exchange = make();
  const int num_harmed = group_.size > 1 ? std::get<1>(GetParam()) : 0;  // nothing travels on one
  for (const auto phase : {Phase::dispatch, Phase::combine}) {
    for (int group = 0; group < num_harmed; ++group) {
      FaultInAGroup faulty(*exchange, phase, group);
      const auto wrong = wrong_words(faulty, BenchRouting::balanced, BenchExperts::factors);
      // `gather` sends a row with the first group of any rank: with a late group hardly ever.
      const bool may_be_empty = std::get<0>(GetParam()) == "gather" && phase == Phase::dispatch;
      if (!may_be_empty || over_ranks(faulty.harmed_rows()) > 0) {
        EXPECT_GT(wrong, 0) << to_string(phase) << " of group " << group;
      }
    }
  }
  // A double that changes nothing is accepted.
  FaultInAGroup harmless(*exchange, Phase::dispatch, std::get<1>(GetParam()));
  EXPECT_EQ(wrong_words(harmless, BenchRouting::balanced, BenchExperts::factors), 0);
}

/// A graph of experts whose rows end where they ended when it was captured. A device of the host
/// has no graphs: it runs again what it is asked to capture, which is what a replay does.
TEST_P(ExchangeBenchGroups, ExpertsThatStayWhereTheyWereInAReplayAreCounted) {
  const auto exchange = make();
  FrozenOffsets frozen(*exchange);
  const auto device = make_host_bench_device(session(), WaitPolicy{});
  for (Exchange* const one : {exchange.get(), static_cast<Exchange*>(&frozen)}) {
    BenchPass layer(*one, shape_, std::get<1>(GetParam()));
    const auto seed = fresh_seed();
    const auto tokens = [&](std::uint64_t of) {
      return make_bench_tokens(BenchRouting::balanced, shape_, kTokens, of, at::kCPU);
    };
    auto in = tokens(seed);
    const auto wrong = over_ranks(wrong_words_of(
        layer, *device, /*captured=*/true, in, [&] { return tokens(seed + 1); }, [] {}));
    EXPECT_EQ(wrong > 0, one == &frozen);
  }
}

INSTANTIATE_TEST_SUITE_P(Groups,
                         ExchangeBenchGroups,
                         ::testing::Combine(::testing::ValuesIn(built_exchanges(/*on_gpu=*/false)),
                                            ::testing::Values(1, 2, 3, 8)),
                         [](const auto& suite) {
                           return std::get<0>(suite.param) + "_" +
                                  std::to_string(std::get<1>(suite.param));
                         });

/// Whatever has been moved into the same memory before.
TEST(ExchangeBenchCeilings, WordsThatDidNotComeAreWrong) {
  constexpr std::int64_t words = 16;
  const auto device = make_host_bench_device(session(), WaitPolicy{});
  const auto meet = [] { over_ranks(0); };
  const int all_sms[] = {0};
  for (auto& ceiling : device->ceilings(4 * words, all_sms)) {
    EXPECT_EQ(wrong_words_of(ceiling, meet), 0) << ceiling.name;
    auto idle = ceiling;
    idle.move = [] {};
    EXPECT_EQ(wrong_words_of(idle, meet), words * (world_size() - 1)) << ceiling.name;
    ceiling.check_status = [] { throw RunError("gave up"); };
    EXPECT_THROW(wrong_words_of(ceiling, meet), RunError);
  }
}

TEST(ExchangeBenchOptions, GroupsThatCannotBeAreRefused) {
  const WaitPolicy wait;
  const auto refusal_of = [&](std::vector<int> groups, std::vector<std::string> exchanges = {}) {
    ExchangeBenchOptions options = {.device = DeviceKind::cpu,
                                    .exchanges = std::move(exchanges),
                                    .groups = std::move(groups),
                                    .num_experts = 4 * world_size(),
                                    .top_k = 2};
    return testing::input_error_of([&] { resolve_options(options, session(), wait); });
  };
  EXPECT_EQ(refusal_of({1, 2, 4}), "");
  EXPECT_EQ(refusal_of({1, 9}), "bench exchange: groups; allowed: 1 to 8");
  EXPECT_EQ(refusal_of({0}), "bench exchange: groups; allowed: 1 to 8");
  EXPECT_EQ(refusal_of({2, 5}),
            "bench exchange: 5 groups of the 4 experts of a rank; allowed: at most one group an "
            "expert");
  EXPECT_EQ(
      resolve_options(
          {.device = DeviceKind::cpu, .num_experts = 4 * world_size(), .top_k = 2}, session(), wait)
          .groups,
      std::vector<int>{1});
}

/// Of a card, without one: one that is named must take all groups, of all those that cannot are
/// left out later.
TEST(ExchangeBenchOptions, AnExchangeThatTakesExpertsAsOneIsNamed) {
  const WaitPolicy wait;
  ExchangeBenchOptions options = {
      .device = DeviceKind::cuda, .exchanges = {"symmetric", "padded"}, .groups = {1, 2}};
  options.num_experts = 8 * world_size();
  options.top_k = 2;
  EXPECT_EQ(testing::input_error_of([&] { resolve_options(options, session(), wait); }),
            "2 groups of experts: exchange 'padded' on GPUs takes the experts of a rank as one; "
            "allowed: symmetric");
  options.exchanges = {"symmetric"};
  EXPECT_NO_THROW(resolve_options(options, session(), wait));
  options.exchanges.clear();
  EXPECT_NO_THROW(resolve_options(options, session(), wait));
}

}  // namespace
}  // namespace dovetail::test
