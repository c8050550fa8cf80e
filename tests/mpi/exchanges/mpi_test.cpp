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

// Groups only spread what travels: each peer's counts are one number a group.
TEST(ExchangeTraffic, GroupsSendNoMoreRows) {
  const TestGroup group;
  for (const auto* kind : kKinds) {
    const auto shape = group.shape(8, std::min(4, group.size * 8));
    const auto batch =
        make_batch(shape, equal_tokens(group, 50), Routing::uniform, Weights::random, fresh_seed());
    Traffic whole;
    for (const int num_groups : {1, 2, 8}) {
      const auto exchange = group.make(kind, shape);
      CommLane lane(false);
      EXPECT_EQ(join_problems(run_layers(*exchange, group.rank, {{batch}}, lane, num_groups)), "");
      const auto traffic = exchange->meter().traffic();
      whole = num_groups == 1 ? traffic : whole;
      const auto more_counts = std::int64_t{8} * (num_groups - 1) * (group.size - 1);
      EXPECT_EQ(traffic.dispatch_wire_bytes, whole.dispatch_wire_bytes + more_counts);
      EXPECT_EQ(traffic.dispatch_received_bytes, whole.dispatch_received_bytes + more_counts);
      EXPECT_EQ(traffic.combine_wire_bytes, whole.combine_wire_bytes);
      EXPECT_EQ(traffic.combine_received_bytes, whole.combine_received_bytes);
      EXPECT_EQ(traffic.dispatch_logical_bytes, whole.dispatch_logical_bytes);
      EXPECT_EQ(traffic.combine_logical_bytes, whole.combine_logical_bytes);
    }
  }
}

// The first group of a token's experts on a rank brings its row, the last one takes the sum back.
TEST(ExchangeTraffic, ARowTravelsWithTheFirstGroupThatNeedsItAndBackWithTheLast) {
  const TestGroup group;
  if (group.size == 1) {
    GTEST_SKIP() << "nothing travels";
  }
  const auto shape = group.shape(4, 2);
  auto batch = make_batch(shape, equal_tokens(group, 6), Routing::uniform, Weights::random, 1);
  for (int rank = 0; rank < group.size; ++rank) {  // tokens 0 to 2: experts 1 and 2; others: 3
    auto& ids = batch.ranks[static_cast<std::size_t>(rank)].expert_ids;
    for (std::size_t token = 0; token < 6; ++token) {
      const int first = (rank + 1) % group.size * 4;
      ids[2 * token] = first + (token < 3 ? 2 : 3);
      ids[2 * token + 1] = token < 3 ? first + 1 : -1;
    }
  }
  const auto exchange = group.make("ragged", shape);
  auto tokens = to_tensors(batch, group.rank);
  tokens.num_groups = 4;
  exchange->prepare(0, tokens);
  const std::vector<std::int64_t> rows_out = {0, 3, 0, 3};
  const std::vector<std::int64_t> rows_back = {0, 0, 3, 3};
  const auto metadata = std::int64_t{6} * 8 * shape.top_k;
  const auto counts = std::int64_t{8} * 4 * (group.size - 1);
  for (std::size_t g = 0; g < 4; ++g) {
    const auto before = exchange->meter().traffic();
    exchange->dispatch(0, static_cast<int>(g));
    const auto after = exchange->meter().traffic();
    EXPECT_EQ(after.dispatch_wire_bytes - before.dispatch_wire_bytes,
              rows_out[g] * shape.row_bytes() + (g == 0 ? metadata + counts : 0))
        << g;
  }
  for (std::size_t g = 0; g < 4; ++g) {
    const auto before = exchange->meter().traffic();
    const auto rows = exchange->arrange(0, static_cast<int>(g));
    exchange->reduce(0, static_cast<int>(g), apply_experts(shape, group.rank, rows));
    exchange->combine(0, static_cast<int>(g));
    const auto after = exchange->meter().traffic();
    EXPECT_EQ(after.combine_received_bytes - before.combine_received_bytes,
              rows_back[g] * shape.row_bytes())
        << g;
  }
  EXPECT_EQ(join_problems(check_output(batch, group.rank, exchange->finish(0))), "");
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

// Each call in ascending order of groups, behind what it reads: otherwise it would take rows that
// are not there yet.
TEST(ExchangeGroups, CallsThatComeTooEarlyAreRefused) {
  const TestGroup group;
  const auto shape = group.shape(4, 2);
  const auto batch =
      make_batch(shape, equal_tokens(group, 6), Routing::uniform, Weights::random, fresh_seed());
  auto tokens = to_tensors(batch, group.rank);
  tokens.num_groups = 3;
  for (const auto* kind : kKinds) {
    const auto exchange = group.make(kind, shape);
    const auto expect_refused = [&](const auto& call, const std::string& what) {
      try {
        call();
        ADD_FAILURE() << "no ContractError: " << what;
      } catch (const ContractError& error) {
        EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
      }
    };
    const auto arrange = [&](int of) { return exchange->arrange(0, of); };
    const auto reduce = [&](int of, const ExpertRows& rows) {
      exchange->reduce(0, of, apply_experts(shape, group.rank, rows));
    };
    const std::string before = " of the group before";
    exchange->prepare(0, tokens);
    expect_refused([&] { exchange->dispatch(0, 3); }, "group 3 of 3");
    expect_refused([&] { exchange->dispatch(0, 1); }, "dispatch of group 1 of ubatch 0");
    expect_refused([&] { exchange->dispatch(0, 1); }, "must follow the dispatch" + before);
    expect_refused([&] { arrange(0); }, "must follow dispatch");
    exchange->dispatch(0, 0);
    expect_refused([&] { arrange(1); }, "must follow dispatch");
    const auto first = arrange(0);
    expect_refused([&] { exchange->combine(0, 0); }, "must follow reduce");
    expect_refused([&] { arrange(0); }, "must follow the reduce" + before);
    exchange->dispatch(0, 1);
    expect_refused([&] { arrange(1); }, "must follow the reduce" + before);
    expect_refused([&] { reduce(1, first); }, "must follow arrange");
    reduce(0, first);
    expect_refused([&] { exchange->combine(0, 1); }, "must follow reduce");
    exchange->dispatch(0, 2);
    for (const int of : {1, 2}) {
      reduce(of, arrange(of));
    }
    expect_refused([&] { exchange->combine(0, 1); }, "must follow the combine" + before);
    exchange->combine(0, 0);
    exchange->combine(0, 1);
    expect_refused([&] { exchange->finish(0); }, "must follow combine");
    exchange->combine(0, 2);
    EXPECT_EQ(join_problems(check_output(batch, group.rank, exchange->finish(0))), "");
  }
}

// The rows of a group as those who poison or harm them find them: each row once.
TEST(ExchangeGroups, ReceivedRowsOfGroupsAreApart) {
  const TestGroup group;
  const auto shape = group.shape(4, std::min(3, group.size * 4));
  const auto batch =
      make_batch(shape, equal_tokens(group, 30), Routing::uniform, Weights::random, fresh_seed());
  auto tokens = to_tensors(batch, group.rank);
  tokens.num_groups = 4;
  for (const auto* kind : kKinds) {
    const auto exchange = group.make(kind, shape);
    exchange->prepare(0, tokens);
    for (int of = 0; of < 4; ++of) {
      exchange->dispatch(0, of);
    }
    const auto all = exchange->buffers().received_rows(0, Phase::dispatch, std::nullopt);
    ASSERT_EQ(all.size(), 1U);
    all.front().zero_();
    for (int of = 0; of < 4; ++of) {
      for (const auto& rows : exchange->buffers().received_rows(0, Phase::dispatch, of)) {
        rows.add_(1);
      }
    }
    EXPECT_TRUE(all.front().eq(1).all().item<bool>()) << kind;
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
