// What `dovetail bench exchange` sends, and how it tells right from wrong, without ranks.
#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/comm/exchange/bench/bench_bandwidth.hpp"
#include "framework/comm/exchange/bench/bench_pass.hpp"
#include "framework/comm/exchange/bench/bench_pattern.hpp"
#include "framework/comm/exchange/bench/bench_tokens.hpp"

namespace dovetail {
namespace {

constexpr std::int64_t kTokens = 4000;

ExchangeShape shape_of(int rank, at::ScalarType dtype = at::kBFloat16) {
  return {
      .ep_size = 4, .ep_rank = rank, .num_experts = 32, .top_k = 4, .hidden = 24, .dtype = dtype};
}

std::vector<std::int64_t> counts(const std::vector<std::int64_t>& experts) {
  std::vector<std::int64_t> all(32);
  for (const auto expert : experts) {
    ++all.at(static_cast<std::size_t>(expert));
  }
  return all;
}

TEST(ExchangeBench, TokensChooseDistinctExpertsThatDependOnTheArgumentsOnly) {
  for (const auto& name : bench_routing_names()) {
    const auto routing = bench_routing(name);
    const auto experts = bench_experts(routing, shape_of(1), 1, kTokens, 5);
    ASSERT_EQ(std::ssize(experts), kTokens * 4);
    EXPECT_EQ(experts, bench_experts(routing, shape_of(1), 1, kTokens, 5));
    if (routing == BenchRouting::empty) {
      EXPECT_EQ(std::count(experts.begin(), experts.end(), -1), kTokens * 4);
      continue;
    }
    EXPECT_NE(experts, bench_experts(routing, shape_of(1), 2, kTokens, 5));
    EXPECT_NE(experts, bench_experts(routing, shape_of(1), 1, kTokens, 6));
    for (std::size_t token = 0; token < kTokens; ++token) {
      const std::set<std::int64_t> distinct(&experts[token * 4], &experts[token * 4] + 4);
      ASSERT_EQ(distinct.size(), 4U) << name << " token " << token;
      ASSERT_GE(*distinct.begin(), 0);
      ASSERT_LT(*distinct.rbegin(), 32);
    }
  }
  EXPECT_THROW(bench_routing("even"), InputError);
}

/// The seed is fixed, so nothing here is left to chance.
TEST(ExchangeBench, RoutingsAreWhatTheirNamesSay) {
  const auto of = [](BenchRouting routing) {
    return counts(bench_experts(routing, shape_of(0), 0, kTokens, 1));
  };
  const auto balanced = of(BenchRouting::balanced);
  EXPECT_GT(*std::min_element(balanced.begin(), balanced.end()), 420);  // 500 is the mean
  EXPECT_LT(*std::max_element(balanced.begin(), balanced.end()), 580);
  const auto zipf = of(BenchRouting::zipf);
  EXPECT_GT(zipf[0], 8 * zipf[31]);
  EXPECT_GT(zipf[0], zipf[3]);
  const auto one_sided = of(BenchRouting::one_sided);
  EXPECT_EQ(std::count(one_sided.begin(), one_sided.begin() + 24, 0), 24);
  EXPECT_GT(*std::min_element(one_sided.begin() + 24, one_sided.end()), 1800);
  // Ten experts a token, eight of them on the last rank.
  auto wide = shape_of(0);
  wide.top_k = 10;
  const auto spilled = counts(bench_experts(BenchRouting::one_sided, wide, 0, 100, 1));
  EXPECT_EQ(spilled[31], 100);
}

TEST(ExchangeBench, OneWrongElementIsCounted) {
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const bool scaled : {false, true}) {
      const auto in =
          make_bench_tokens(BenchRouting::balanced, shape_of(2, dtype), 50, 3, at::kCPU);
      auto output = at::Tensor(in.hidden.clone());
      for (std::int64_t token = 0; token < 50; ++token) {
        double sum = 0;
        for (std::int64_t j = 0; j < 4; ++j) {
          const auto expert = in.expert_ids[token][j].item<std::int64_t>();
          sum += in.weights[token][j].item<double>() * (scaled && expert % 2 == 1 ? 2.0 : 1.0);
        }
        for (std::int64_t h = 0; h < 24; ++h) {
          output[token][h] = in.hidden[token][h].item<double>() * sum;
        }
      }
      EXPECT_EQ(count_wrong(in, output, scaled), 0);
      EXPECT_GT(count_wrong(in, output, !scaled), 0);
      output[49][23] = -1;
      EXPECT_EQ(count_wrong(in, output, scaled), 1);
    }
  }
}

/// Each call is there once for each group, in an order that an exchange allows.
TEST(ExchangeBench, APassMakesEachCallForEachGroup) {
  using enum BenchCall;
  EXPECT_EQ(
      bench_spans(1),
      (std::vector<BenchSpan>{
          {prepare, 0}, {dispatch, 0}, {arrange, 0}, {reduce, 0}, {combine, 0}, {finish, 0}}));
  EXPECT_EQ(bench_spans(2),
            (std::vector<BenchSpan>{{prepare, 0},
                                    {dispatch, 0},
                                    {dispatch, 1},
                                    {arrange, 0},
                                    {reduce, 0},
                                    {arrange, 1},
                                    {reduce, 1},
                                    {combine, 0},
                                    {combine, 1},
                                    {finish, 0}}));
}

TEST(ExchangeBench, TimesAreSumsOverGroupsAndMediansOverPasses) {
  BenchClock clock(2);
  // Of prepare, 2 x dispatch, 2 x (arrange, reduce), 2 x combine, finish.
  clock.add(std::vector<double>{1, 20, 300, 4, 5, 40, 50, 600, 7, 8});
  clock.add(std::vector<double>{2, 21, 301, 4, 5, 40, 50, 601, 9, 9,  //
                                3, 90, 302, 9, 9, 90, 90, 900, 9, 9});
  const auto times = clock.medians();
  EXPECT_EQ(times.calls, (std::array<double, kNumBenchCalls>{2, 322, 44, 55, 610, 9}));
  EXPECT_EQ(times.first_dispatch, 21);
  EXPECT_EQ(times.first_combine, 601);
  EXPECT_THROW(clock.add(std::vector<double>(9)), ContractError);
}

/// 128 tokens with rows of 256 bytes on two ranks: each token's row goes to both, whatever its top
/// k of 8; with a top k of 1 to one.
TEST(ExchangeBench, LogicalBytesAreARowForEachTokenAndRank) {
  EXPECT_EQ(logical_bytes(128, 2, 8, 256), 65536);
  EXPECT_EQ(logical_bytes(128, 2, 1, 256), 32768);
  EXPECT_EQ(logical_bytes(128, 16, 8, 256), 262144);
  EXPECT_EQ(logical_bytes(0, 4, 8, 256), 0);
}

/// In 2 us 1000 bytes are half a GB/s. The bus bandwidth of four ranks is three quarters of the
/// algorithm bandwidth.
TEST(ExchangeBench, BandwidthsAreCountedByHand) {
  const auto found = bench_bandwidth({.wire = 1000, .logical = 4000, .choices = 8000}, 4, 2.0);
  EXPECT_DOUBLE_EQ(found.wire_gbs, 0.5);
  EXPECT_DOUBLE_EQ(found.logical_gbs, 2.0);
  EXPECT_DOUBLE_EQ(found.bus_gbs, 1.5);
  EXPECT_DOUBLE_EQ(found.choices_gbs, 4.0);
  EXPECT_EQ(bench_bandwidth({.wire = 9, .logical = 9}, 1, 3.0).bus_gbs, 0);
  EXPECT_EQ(bench_bandwidth({.wire = 1000, .logical = 4000}, 4, 0).logical_gbs, 0);
}

/// -1 is no choice.
TEST(ExchangeBench, TokensWithoutAChoiceAreNotRouted) {
  auto in = make_bench_tokens(BenchRouting::balanced, shape_of(0), 5, 1, at::kCPU);
  EXPECT_EQ(in.num_routed(), 5);
  in.expert_ids[1].fill_(-1);
  in.expert_ids[2][0] = -1;
  EXPECT_EQ(in.num_routed(), 4);
}

TEST(ExchangeBench, PatternsSayFromWhomToWhom) {
  auto here = make_pattern(1, 3, 64, at::kCPU);
  EXPECT_EQ(here.wrong_words(), 2 * 16);  // nothing has come but the own block
  for (int source = 0; source < 3; ++source) {
    here.receive.select(0, source).copy_(make_pattern(source, 3, 64, at::kCPU).send.select(0, 1));
  }
  EXPECT_EQ(here.wrong_words(), 0);
  here.receive.select(0, 0).copy_(make_pattern(0, 3, 64, at::kCPU).send.select(0, 2));
  EXPECT_EQ(here.wrong_words(), 16);
}

}  // namespace
}  // namespace dovetail
