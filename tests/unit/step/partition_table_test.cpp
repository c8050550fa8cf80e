// What `dovetail bench partition` is asked for, and how it gets from time stamps to the figures of
// a row; how a device is cut.
#include "framework/comm/exchange/bench/partition_table.hpp"

#include <initializer_list>
#include <utility>

#include <gtest/gtest.h>

#include "framework/comm/exchange/bench/partition_bench.hpp"
#include "tests/support/input_error.hpp"

namespace dovetail {
namespace {

using testing::input_error_of;

TEST(PartitionTable, SpreadsLeaveOutATenthOnEachSide) {
  std::vector<double> samples;
  for (int i = 21; i >= 1; --i) {
    samples.push_back(i);
  }
  const auto spread = spread_of(samples);
  EXPECT_EQ(spread.median, 11);
  EXPECT_EQ(spread.low, 3);
  EXPECT_EQ(spread.high, 19);
  const auto one = spread_of({7});
  EXPECT_EQ(one.low, 7);
  EXPECT_EQ(one.median, 7);
  EXPECT_EQ(one.high, 7);
  EXPECT_EQ(spread_of({1, 2}).median, 1.5);
}

TEST(PartitionTable, OnlyWhatRanBesideTheOtherLaneCounts) {
  const std::vector<double> marks = {10, 22, 30, 45};
  EXPECT_EQ(durations_until(marks, 100), (std::vector<double>{10, 12, 8, 15}));
  EXPECT_EQ(durations_until(marks, 30), (std::vector<double>{10, 12, 8}));
  EXPECT_EQ(durations_until(marks, 29), (std::vector<double>{10, 12}));
  EXPECT_EQ(durations_until(marks, 5), std::vector<double>{10}) << "one in any case";
}

TEST(PartitionTable, LanesLastAboutEquallyLong) {
  const auto usual = counts_for(200, 400, 4000);
  EXPECT_EQ(usual.compute, 20);
  EXPECT_EQ(usual.exchange, 10);
  const auto longer = counts_for(5000, 100, 4000);
  EXPECT_EQ(longer.compute, kLeastOps);
  EXPECT_EQ(longer.exchange, kLeastOps * 50);
  const auto slow_exchange = counts_for(100, 3000, 4000);
  EXPECT_EQ(slow_exchange.compute, kLeastOps * 30);
  EXPECT_EQ(slow_exchange.exchange, kLeastOps);
}

PartitionRow row_of(int comm_sms, double compute, double beside, double exchange, double slowed) {
  return {.compute = "product",
          .comm_sms = comm_sms,
          .compute_alone = {.median = compute},
          .compute_beside = Spread{.median = beside},
          .exchange_alone = Spread{.median = exchange},
          .exchange_beside = Spread{.median = slowed}};
}

TEST(PartitionTable, ContentionIsAgainstTheSamePartitionAndAgainstAllSms) {
  const auto all = row_of(kAllSms, 100, 150, 50, 75);
  const auto eight = row_of(8, 125, 150, 80, 100);
  const auto compute = compute_contention(eight, all);
  ASSERT_TRUE(compute);
  EXPECT_DOUBLE_EQ(compute->of_same, 1.2);
  EXPECT_DOUBLE_EQ(compute->of_all, 1.5);
  const auto exchange = exchange_contention(eight, all);
  ASSERT_TRUE(exchange);
  EXPECT_DOUBLE_EQ(exchange->of_same, 1.25);
  EXPECT_DOUBLE_EQ(exchange->of_all, 2.0);
  auto alone = eight;
  alone.compute_beside.reset();
  alone.exchange_beside.reset();
  EXPECT_FALSE(compute_contention(alone, all));
  EXPECT_FALSE(exchange_contention(alone, all));
}

TEST(PartitionTable, TheHiddenShareIsOfTheShorterLane) {
  auto row = row_of(8, 1, 1, 1, 1);
  row.sum_us = 300;
  row.longer_us = 200;
  for (const auto& [together, share] : std::initializer_list<std::pair<double, double>>{
           {200, 1}, {250, 0.5}, {300, 0}, {350, -0.5}}) {
    row.together_us = together;
    EXPECT_DOUBLE_EQ(hidden_share(row).value(), share);
  }
  row.exchange_alone.reset();
  EXPECT_FALSE(hidden_share(row));
}

TEST(PartitionTable, ARowIsHeldAgainstThatOfItsOwnCompute) {
  std::vector<PartitionRow> rows = {row_of(8, 1, 1, 1, 1), row_of(kAllSms, 2, 2, 2, 2)};
  rows.push_back(row_of(kAllSms, 3, 3, 3, 3));
  rows.back().compute = "attention";
  EXPECT_EQ(row_of_all_sms(rows, "product"), &rows[1]);
  EXPECT_EQ(row_of_all_sms(rows, "attention"), &rows[2]);
  EXPECT_EQ(row_of_all_sms(rows, "norm"), nullptr);
}

TEST(PartitionOptions, HaveDefaults) {
  const auto made = resolve_partition_options({}, 2);
  EXPECT_EQ(made.device, DeviceKind::cuda);
  EXPECT_EQ(made.tokens, std::vector<std::int64_t>{4096});
  EXPECT_EQ(made.comm_sms, (std::vector<int>{0, 4, 8, 16, 32}));
  EXPECT_EQ(made.hidden, 7168);
  EXPECT_EQ(made.num_experts, 256);
  EXPECT_EQ(made.top_k, 8);
  EXPECT_EQ(resolve_partition_options({.comm_sms = {16, 0, 8}}, 2).comm_sms,
            (std::vector<int>{0, 16, 8}))
      << "what all others are held against comes first";
}

TEST(PartitionOptions, AreRefusedByName) {
  const auto refused = [](const ExchangeBenchOptions& options) {
    return input_error_of([&] { resolve_partition_options(options, 2); });
  };
  EXPECT_EQ(refused({}), "");
  EXPECT_EQ(refused({.device = DeviceKind::cpu}),
            "bench partition: device cpu; allowed: auto, cuda: CPU ranks have no SMs to share out");
  EXPECT_EQ(refused({.groups = {2}}), "bench partition: groups; the experts are not cut");
  EXPECT_NE(refused({.routings = {"zipf"}}).find("routings"), std::string::npos);
  EXPECT_NE(refused({.exchanges = {"ragged"}}).find("exchanges"), std::string::npos);
  EXPECT_NE(refused({.exchanges = {"gather", "padded"}}).find("exchanges"), std::string::npos);
  EXPECT_EQ(refused({.exchanges = {"gather"}}), "");
  for (const std::int64_t tokens : {0, -1, 65'537}) {
    EXPECT_NE(refused({.tokens = {tokens}}).find("tokens"), std::string::npos) << tokens;
  }
  EXPECT_NE(refused({.tokens = {1, 2}}).find("tokens"), std::string::npos);
  for (const int comm_sms : {-1, 12, 128}) {
    EXPECT_NE(refused({.comm_sms = {comm_sms}}).find("comm SMs"), std::string::npos) << comm_sms;
  }
  EXPECT_NE(refused({.hidden = 1 << 17}).find("hidden"), std::string::npos);
  EXPECT_NE(refused({.num_experts = 7}).find("a multiple of the ranks"), std::string::npos);
  EXPECT_NE(refused({.top_k = 17}).find("top k"), std::string::npos);
  EXPECT_NE(refused({.num_experts = 4, .top_k = 5}).find("top k"), std::string::npos);
}

}  // namespace
}  // namespace dovetail
