// What is particular to the MPI back ends: bytes on the wire, bounded waits that name the late
// peer, what a failure leaves behind, and memory.
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/comm/exchange/peer_messages.hpp"
#include "framework/mpi/check.hpp"
#include "tests/mpi/exchange_driver.hpp"

namespace dovetail::test {
namespace {

constexpr const char* kKinds[] = {"gather", "ragged"};

std::vector<std::int64_t> equal_tokens(const TestGroup& group, std::int64_t tokens) {
  return std::vector<std::int64_t>(static_cast<std::size_t>(group.size), tokens);
}

// Rows that left this rank, from the byte counter: a row carries 8 bytes of metadata per choice,
// and each peer got 8 bytes of counts.
std::int64_t dispatched_rows(const ExchangeShape& shape, const Traffic& traffic) {
  const auto row_bytes = shape.hidden * 4 + std::int64_t{8} * shape.top_k;
  const auto payload = traffic.dispatch_wire_bytes - std::int64_t{8} * (shape.ep_size - 1);
  EXPECT_EQ(payload % row_bytes, 0);
  return payload / row_bytes;
}

TEST(ExchangeTraffic, RaggedSendsOneRowPerTokenAndRemoteRank) {
  const TestGroup group;
  const auto seed = fresh_seed();
  std::uint64_t pass = 0;
  for (const auto routing : kAllRoutings) {
    const auto shape = group.shape(3, std::min(4, group.size * 3));
    const auto batch =
        make_batch(shape, equal_tokens(group, 50), routing, Weights::random, seed + ++pass);
    const auto exchange = group.make("ragged", shape);
    run_pass(*exchange, 0, batch, group.rank);
    EXPECT_EQ(dispatched_rows(shape, exchange->meter().traffic()),
              count_remote_rows(batch, group.rank));
    // Back travel the rows of the others' tokens: over the group the same number.
    std::int64_t rows[2] = {exchange->meter().traffic().combine_wire_bytes / (shape.hidden * 4),
                            count_remote_rows(batch, group.rank)};
    DOVETAIL_MPI(
        MPI_Allreduce(MPI_IN_PLACE, rows, 2, MPI_INT64_T, MPI_SUM, group.exchange_comm.raw()));
    EXPECT_EQ(rows[0], rows[1]);
  }
}

TEST(ExchangeTraffic, GatherSendsEveryRoutedRowToEveryPeer) {
  const TestGroup group;
  const auto shape = group.shape(3, 2);
  const auto batch =
      make_batch(shape, equal_tokens(group, 20), Routing::padding, Weights::random, fresh_seed());
  const auto exchange = group.make("gather", shape);
  run_pass(*exchange, 0, batch, group.rank);
  const auto& mine = batch.ranks[static_cast<std::size_t>(group.rank)];
  std::int64_t routed = 0;
  for (std::size_t token = 0; token < 20; ++token) {
    routed += mine.expert_ids[2 * token] >= 0 || mine.expert_ids[2 * token + 1] >= 0 ? 1 : 0;
  }
  EXPECT_EQ(dispatched_rows(shape, exchange->meter().traffic()), routed * (group.size - 1));
}

// In batch_invariant each choice of a remote expert brings a row back; what goes out stays.
TEST(ExchangeTraffic, BatchInvariantReturnsOneRowPerRemoteChoice) {
  const TestGroup group;
  const auto seed = fresh_seed();
  for (const auto* kind : kKinds) {
    std::uint64_t pass = 0;
    for (const auto routing : kAllRoutings) {
      auto shape = group.shape(3, std::min(4, group.size * 3));
      const auto batch =
          make_batch(shape, equal_tokens(group, 50), routing, Weights::random, seed + ++pass);
      const auto fast = group.make(kind, shape);
      run_pass(*fast, 0, batch, group.rank);
      shape.sum_order = SumOrder::by_choice;
      const auto invariant = group.make(kind, shape);
      run_pass(*invariant, 0, batch, group.rank);

      const auto& traffic = invariant->meter().traffic();
      const auto& before = fast->meter().traffic();
      EXPECT_EQ(traffic.dispatch_wire_bytes, before.dispatch_wire_bytes);
      EXPECT_EQ(traffic.dispatch_received_bytes, before.dispatch_received_bytes);
      EXPECT_EQ(traffic.dispatch_logical_bytes, before.dispatch_logical_bytes);
      EXPECT_EQ(traffic.combine_logical_bytes, before.combine_logical_bytes);
      EXPECT_EQ(traffic.combine_received_bytes,
                count_remote_choices(batch, group.rank) * shape.row_bytes());
      std::int64_t bytes[2] = {traffic.combine_wire_bytes, traffic.combine_received_bytes};
      DOVETAIL_MPI(
          MPI_Allreduce(MPI_IN_PLACE, bytes, 2, MPI_INT64_T, MPI_SUM, group.exchange_comm.raw()));
      EXPECT_EQ(bytes[0], bytes[1]);
    }
  }
}

// Expected number of distinct ranks per token under uniform routing without replacement,
// R * (1 - C(E - E/R, k) / C(E, k)); without the own rank, R - 1 for R in front.
TEST(ExchangeTraffic, RaggedMeetsTheExpectationOfUniformRouting) {
  const TestGroup group;
  constexpr std::int64_t num_tokens = 3000;
  auto shape = group.shape(4, 3);
  const auto batch = make_batch(
      shape, equal_tokens(group, num_tokens), Routing::uniform, Weights::random, fresh_seed());
  const auto exchange = group.make("ragged", shape);
  run_pass(*exchange, 0, batch, group.rank);
  double miss = 1;
  for (int i = 0; i < shape.top_k; ++i) {
    miss *= static_cast<double>(shape.num_experts - shape.experts_per_rank() - i) /
            (shape.num_experts - i);
  }
  const double expected = (group.size - 1) * (1 - miss);
  const auto rows = static_cast<double>(dispatched_rows(shape, exchange->meter().traffic()));
  // Rows per token lie in [0, 3], so a standard deviation is at most 1.5; six of them.
  EXPECT_NEAR(rows / num_tokens, expected, 6 * 1.5 / std::sqrt(static_cast<double>(num_tokens)));
  EXPECT_EQ(rows > 0, group.size > 1);
}

TEST(ExchangeMessages, CountsBeyondMpisIntAreRefused) {
  EXPECT_EQ(message_count(std::numeric_limits<int>::max()), std::numeric_limits<int>::max());
  EXPECT_THROW(message_count(1LL << 31), RunError);
  EXPECT_THROW(message_count(-1), RunError);
  EXPECT_THROW(RowDatatype(1LL << 31), ContractError);
  EXPECT_THROW(RowDatatype(0), ContractError);
  EXPECT_NO_THROW(RowDatatype{std::numeric_limits<int>::max()});
}

TEST(ExchangeShapes, ImpossibleShapesAreRefused) {
  const TestGroup group;
  const auto good = group.shape(2, 2);
  const auto expect_refused = [&](auto change) {
    auto shape = good;
    change(shape);
    EXPECT_THROW(group.make("ragged", shape), ContractError);
  };
  EXPECT_NO_THROW(group.make("ragged", good));
  expect_refused([](ExchangeShape& shape) { shape.ep_size += 1; });
  expect_refused([](ExchangeShape& shape) { shape.ep_rank = shape.ep_size; });
  expect_refused([](ExchangeShape& shape) { shape.num_experts = 0; });
  expect_refused([](ExchangeShape& shape) { shape.top_k = shape.num_experts + 1; });
  expect_refused([](ExchangeShape& shape) { shape.top_k = 0; });
  expect_refused([](ExchangeShape& shape) { shape.hidden = 0; });
  expect_refused([](ExchangeShape& shape) { shape.dtype = at::kDouble; });
  expect_refused([](ExchangeShape& shape) { shape.num_ubatches = 0; });
  if (group.size > 1) {
    expect_refused([](ExchangeShape& shape) { shape.num_experts += 1; });
  }
}

// With k = E every bound of the estimate is reached; with less it holds.
void expect_estimate_holds(const TestGroup& group,
                           const char* kind,
                           const ExchangeShape& shape,
                           std::uint64_t seed) {
  const auto exchange = group.make(kind, shape);
  for (int ubatch = 0; ubatch < shape.num_ubatches; ++ubatch) {
    for (const auto routing : kAllRoutings) {
      run_pass(*exchange,
               ubatch,
               make_batch(shape, equal_tokens(group, 11), routing, Weights::random, seed),
               group.rank);
    }
    run_pass(*exchange,
             ubatch,
             make_batch(shape, equal_tokens(group, 11), Routing::uniform, Weights::random, seed),
             group.rank);
  }
  const auto held = exchange->buffers().bytes();
  const auto estimate = exchange_buffer_bytes(kind, /*on_gpu=*/false, shape, 11, 1.0);
  EXPECT_LE(held, estimate) << kind << " k " << shape.top_k;
  if (shape.top_k == shape.num_experts) {
    EXPECT_EQ(held, estimate) << kind;
  }
}

TEST(ExchangeMemory, EstimateIsReachedInTheWorstRoutingAndHoldsOtherwise) {
  const TestGroup group;
  const auto seed = fresh_seed();
  for (const auto* kind : kKinds) {
    for (const auto order : {SumOrder::by_rank, SumOrder::by_choice}) {
      for (const int k : {group.size * 2, 2, 1}) {
        auto shape = group.shape(2, k);
        shape.num_ubatches = 2;
        shape.sum_order = order;
        expect_estimate_holds(group, kind, shape, seed);
      }
    }
  }
}

}  // namespace
}  // namespace dovetail::test
