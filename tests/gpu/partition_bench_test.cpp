// A small run of what `dovetail bench partition` measures: rows for each partition, times that can
// be, and a correctness word that sees what is wrong.
#include "framework/comm/exchange/bench/partition_bench.hpp"

#include <memory>

#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include "framework/cuda/num_sms.hpp"
#include "tests/gpu/gpu_test.hpp"

namespace dovetail::test {
namespace {

PartitionWork product() {
  const auto options = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
  return {.name = "product",
          .run = [x = at::randn({1024, 1024}, options), weight = at::randn({1024, 1024}, options)] {
            return at::linear(x, weight);
          }};
}

/// Another result with each call.
PartitionWork changing() {
  auto work = product();
  const auto calls = std::make_shared<int>(0);
  return {.name = "changing", .run = [run = work.run, calls] { return run().add_(++*calls); }};
}

PartitionBench bench(std::vector<int> comm_sms,
                     const std::vector<PartitionWork (*)()>& works,
                     std::vector<std::string> exchanges = {}) {
  const ExchangeBenchOptions options = {.exchanges = std::move(exchanges),
                                        .tokens = {300},
                                        .comm_sms = std::move(comm_sms),
                                        .hidden = 512,
                                        .num_experts = 16,
                                        .top_k = 4};
  return bench_partition(
      session(),
      options,
      [&] {
        std::vector<PartitionWork> made;
        for (const auto& make : works) {
          made.push_back(make());
        }
        return made;
      },
      WaitPolicy{});
}

TEST(PartitionBench, HasARowForEachPartitionAndNoWrongWord) {
  DOVETAIL_REQUIRE_GPU();
  for (const auto* exchange : {"", "gather"}) {
    const auto found =
        bench({0, 4, 8, 16},
              {product},
              *exchange == '\0' ? std::vector<std::string>{} : std::vector<std::string>{exchange});
    ASSERT_EQ(found.rows.size(), 6U) << "0, 4, 8, 16, and the last two hard";
    ASSERT_EQ(found.left_out.size(), 1U);
    EXPECT_NE(found.left_out[0].find("comm_sms = 4"), std::string::npos) << found.left_out[0];
    const bool has_peers = world_size() > 1;
    if (*exchange != '\0' && has_peers) {
      EXPECT_EQ(found.exchange, exchange);
    }
    for (const auto& row : found.rows) {
      SCOPED_TRACE(std::string(to_string(row.partition)) + " " + describe_comm_sms(row.comm_sms));
      EXPECT_EQ(row.compute_sms, num_sms() - (row.comm_sms == kAllSms ? 0 : row.comm_sms));
      EXPECT_EQ(row.wrong_compute, 0);
      EXPECT_EQ(row.wrong_exchange, 0);
      EXPECT_GT(row.compute_alone.low, 0);
      EXPECT_EQ(row.exchange_beside.has_value(), has_peers);
      if (has_peers) {
        EXPECT_GT(row.exchange_alone->low, 0);
        EXPECT_GE(row.together_us, 0.9 * row.longer_us);
        EXPECT_GT(row.sum_us, row.longer_us);
      }
    }
  }
}

/// The twin of the correctness word: a result that is not that of the reference.
TEST(PartitionBench, OtherBitsAreCounted) {
  DOVETAIL_REQUIRE_GPU();
  const auto found = bench({8}, {changing, product});
  ASSERT_EQ(found.rows.size(), 6U);
  for (const auto& row : found.rows) {
    EXPECT_EQ(row.wrong_compute > 0, row.compute == "changing") << row.compute;
    EXPECT_EQ(row.wrong_exchange, 0);
  }
}

}  // namespace
}  // namespace dovetail::test
