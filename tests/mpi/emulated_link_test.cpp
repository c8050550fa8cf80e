// The emulated link: a call lasts at least as long as the bytes on the wire say, whoever sent them,
// and its wait ends when something failed elsewhere. (What travels is tested with the back ends.)
#include "framework/comm/exchange/emulated_link.hpp"

#include <chrono>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/mpi/check.hpp"
#include "tests/mpi/exchange_driver.hpp"

namespace dovetail::test {
namespace {

using Clock = std::chrono::steady_clock;

TEST(EmulatedLink, DurationIsLatencyPlusTheLargerDirection) {
  const LinkConfig link = {.latency_us = 20.0, .gbytes_per_s = 2.0};
  EXPECT_EQ(link_duration(link, 0, 0).count(), 20'000);
  EXPECT_EQ(link_duration(link, 1000, 400).count(), 20'500);
  EXPECT_EQ(link_duration(link, 400, 1000).count(), 20'500);
  EXPECT_EQ(link_duration(link, 1001, 0).count(), 20'501);  // never shorter than the rule
  EXPECT_EQ(link_duration({.latency_us = 0.0, .gbytes_per_s = 0.5}, 7, 3).count(), 14);
}

TEST(EmulatedLink, AGroupOfOneRankHasNoLink) {
  const MpiComm exchange_comm = MpiComm::duplicate(MPI_COMM_SELF);
  const MpiComm counts_comm = MpiComm::duplicate(MPI_COMM_SELF);
  const ExchangeShape alone = {.num_experts = 4, .top_k = 2, .hidden = 9};
  auto plain = make_exchange("ragged",
                             /*on_gpu=*/false,
                             alone,
                             {.exchange_comm = &exchange_comm, .counts_comm = &counts_comm});
  const auto* address = plain.get();
  EXPECT_EQ(emulate_link(std::move(plain), alone, {}, {}).get(), address);

  const TestGroup group;
  auto peers = group.make("ragged", group.shape(2, 2));
  const auto* of_peers = peers.get();
  EXPECT_NE(emulate_link(std::move(peers), group.shape(2, 2), {}, {}).get(), of_peers);
}

// (token, rank) pairs by source and destination, counted from the routing alone.
std::int64_t count_rows(const GroupBatch& batch, int source, int target) {
  const auto& from = batch.ranks[static_cast<std::size_t>(source)];
  const auto top_k = static_cast<std::size_t>(batch.shape.top_k);
  std::int64_t rows = 0;
  for (std::size_t token = 0; token < static_cast<std::size_t>(from.num_tokens); ++token) {
    bool is_routed = false;
    for (std::size_t k = 0; k < top_k; ++k) {
      const auto expert = from.expert_ids[token * top_k + k];
      is_routed = is_routed || (expert >= 0 && expert / batch.shape.experts_per_rank() == target);
    }
    rows += is_routed ? 1 : 0;
  }
  return rows;
}

struct WireRows {
  std::int64_t sent = 0;
  std::int64_t received = 0;
};

WireRows dispatched_rows(const GroupBatch& batch, int rank) {
  WireRows rows;
  for (int other = 0; other < batch.shape.ep_size; ++other) {
    if (other != rank) {
      rows.sent += count_rows(batch, rank, other);
      rows.received += count_rows(batch, other, rank);
    }
  }
  return rows;
}

// Slow enough for the rows' share of a call to be far longer than its latency.
constexpr LinkConfig kSlow = {.latency_us = 50.0, .gbytes_per_s = 0.001};

TEST(EmulatedLink, CallsLastAtLeastAsLongAsTheirBytesSay) {
  const TestGroup group;
  const auto seed = fresh_seed();
  const auto shape = group.shape(2, 2);
  const auto row_bytes = shape.hidden * 4;
  const auto metadata_bytes = std::int64_t{8} * shape.top_k;
  const auto at_least = [](std::int64_t bytes) { return link_duration(kSlow, bytes, 0); };
  // Even, and one-sided: a rank that only receives is held up just as well.
  for (const auto& tokens :
       {std::vector<std::int64_t>{40, 40, 40, 40}, {90, 0, 0, 0}, {0, 70, 10, 5}}) {
    for (const auto routing : {Routing::uniform, Routing::one_rank, Routing::all_padding}) {
      for (const bool threaded : {false, true}) {
        const auto exchange = emulate_link(group.make("ragged", shape), shape, kSlow, group.policy);
        const auto counts = std::vector(tokens.begin(), tokens.begin() + group.size);
        const auto batch = make_batch(shape, counts, routing, Weights::random, seed);
        const auto rows = dispatched_rows(batch, group.rank);
        const auto in = to_tensors(batch, group.rank);
        CommLane lane(threaded);
        Clock::duration dispatch{};
        Clock::duration combine{};
        exchange->prepare(0, in);
        lane.submit([&] {
              const auto start = Clock::now();
              exchange->dispatch(0, 0);
              dispatch = Clock::now() - start;
            })
            .get();
        const auto arranged = exchange->arrange(0, 0);
        exchange->reduce(0, 0, apply_experts(shape, group.rank, arranged));
        lane.submit([&] {
              const auto start = Clock::now();
              exchange->combine(0, 0);
              combine = Clock::now() - start;
            })
            .get();
        EXPECT_EQ(join_problems(check_output(batch, group.rank, exchange->finish(0))), "");

        const auto outward = std::max(rows.sent, rows.received) * (row_bytes + metadata_bytes);
        EXPECT_GE(dispatch, at_least(outward)) << rows.sent << " sent, " << rows.received;
        EXPECT_GE(combine, at_least(std::max(rows.sent, rows.received) * row_bytes));

        // What the rule is computed from: both directions, whichever rank pays for them.
        const auto counts_bytes = std::int64_t{8} * (shape.ep_size - 1);
        const auto& traffic = exchange->meter().traffic();
        EXPECT_EQ(traffic.dispatch_wire_bytes,
                  rows.sent * (row_bytes + metadata_bytes) + counts_bytes);
        EXPECT_EQ(traffic.dispatch_received_bytes,
                  rows.received * (row_bytes + metadata_bytes) + counts_bytes);
        EXPECT_EQ(traffic.combine_wire_bytes, rows.received * row_bytes);
        EXPECT_EQ(traffic.combine_received_bytes, rows.sent * row_bytes);
      }
    }
  }
}

// Rows of single choices are more bytes than partial sums, and take their time.
TEST(EmulatedLink, ChoicesThatComeBackPayForTheirBytes) {
  const TestGroup group;
  auto shape = group.shape(4, 4);
  shape.sum_order = SumOrder::by_choice;
  const auto exchange = emulate_link(group.make("ragged", shape), shape, kSlow, group.policy);
  const auto batch = make_batch(shape,
                                std::vector<std::int64_t>(static_cast<std::size_t>(group.size), 40),
                                Routing::uniform,
                                Weights::random,
                                fresh_seed());
  exchange->prepare(0, to_tensors(batch, group.rank));
  exchange->dispatch(0, 0);
  exchange->reduce(0, 0, apply_experts(shape, group.rank, exchange->arrange(0, 0)));
  const auto start = Clock::now();
  exchange->combine(0, 0);
  const auto combine = Clock::now() - start;
  EXPECT_EQ(join_problems(check_output(batch, group.rank, exchange->finish(0))), "");
  EXPECT_GE(combine,
            link_duration(kSlow, 0, count_remote_choices(batch, group.rank) * shape.row_bytes()));
}

// A plan that runs again crosses the wire again: its calls are held up, too.
TEST(EmulatedLink, CallsOfAnAdoptedPlanLastAsLong) {
  const TestGroup group;
  const auto shape = group.shape(2, 2);
  const auto exchange = emulate_link(group.make("gather", shape), shape, kSlow, group.policy);
  const auto batch = make_batch(shape,
                                std::vector<std::int64_t>(static_cast<std::size_t>(group.size), 50),
                                Routing::uniform,
                                Weights::random,
                                fresh_seed());
  run_pass(*exchange, 0, batch, group.rank);
  for (int again = 0; again < 2; ++again) {
    exchange->plans().adopt(0, exchange->plans().plan(0));
    const auto start = Clock::now();
    exchange->dispatch(0, 0);
    const auto dispatch = Clock::now() - start;
    exchange->combine(0, 0);
    // gather sends all 50 rows to every peer.
    const auto bytes = 50 * (group.size - 1) * (shape.hidden * 4 + std::int64_t{8} * shape.top_k);
    EXPECT_GE(dispatch, link_duration(kSlow, bytes, 0));
  }
}

/// dispatch of a batch over a link that takes 20 s and more.
void dispatch_slowly(const TestGroup& group, const WaitPolicy& policy) {
  const auto shape = group.shape(2, 2);
  const auto exchange = emulate_link(
      group.make("ragged", shape), shape, {.latency_us = 20e6, .gbytes_per_s = 0.001}, policy);
  const auto batch = make_batch(shape,
                                std::vector<std::int64_t>(static_cast<std::size_t>(group.size), 5),
                                Routing::uniform,
                                Weights::random,
                                fresh_seed());
  const auto in = to_tensors(batch, group.rank);
  exchange->prepare(0, in);
  exchange->dispatch(0, 0);
}

TEST(EmulatedLink, AFailureElsewhereEndsTheWait) {
  const TestGroup group;
  auto policy = group.policy;
  policy.timeout = std::chrono::minutes(1);
  int polls = 0;
  policy.on_poll = [&polls] {
    if (++polls == 5) {
      throw RunError("a peer has failed");
    }
  };
  try {
    dispatch_slowly(group, policy);
    ADD_FAILURE() << "the wait went on";
  } catch (const RunError& error) {
    EXPECT_STREQ(error.what(), "a peer has failed");
  }
  EXPECT_EQ(polls, 5);
}

TEST(EmulatedLink, ALinkSlowerThanTheTimeOutIsAnError) {
  const TestGroup group;
  auto policy = group.policy;
  policy.timeout = std::chrono::seconds(2);
  try {
    dispatch_slowly(group, policy);
    ADD_FAILURE() << "accepted";
  } catch (const TimeoutError& error) {
    const std::string text = error.what();
    EXPECT_EQ(text.find("dispatch of ubatch 0: the emulated link needs 20"), 0U) << text;
    EXPECT_NE(text.find("not done within 2000 ms"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace dovetail::test
