// The conformance suite over device tensors: all back ends that the table has.
#include <cstring>
#include <string>
#include <vector>

#include "tests/gpu/exchange_device_fixture.hpp"

namespace dovetail::test {
namespace {

TEST_P(DeviceExchange, EveryRoutingAndTokenCount) {
  DOVETAIL_REQUIRE_GPU();
  CommLane lane(false);
  for (const std::int64_t hidden : {9, 24}) {
    for (const int experts_per_rank : {1, 3}) {
      for (const int k : {1, group_.size, group_.size * experts_per_rank}) {
        const auto made = shape(experts_per_rank, k, 1, hidden);
        const auto exchange = make(made);
        poison(*exchange, made, kMaxTokens + 1);
        const auto problems = run_layers(*exchange, group_.rank, batches(made, 30), lane);
        EXPECT_TRUE(problems.empty())
            << "hidden " << hidden << ", k " << k << ", " << experts_per_rank
            << " experts per rank, seed " << seed_ << "\n"
            << join_problems(problems);
        EXPECT_NO_THROW(exchange->buffers().check_step());
      }
    }
  }
}

TEST_P(DeviceExchange, UbatchesInFlightOnACommThread) {
  DOVETAIL_REQUIRE_GPU();
  for (int num_ubatches = 1; num_ubatches <= 8; ++num_ubatches) {
    const auto made = shape(2, std::min(3, group_.size * 2), num_ubatches, 24);
    const auto exchange = make(made);
    poison(*exchange, made, kMaxTokens);
    CommLane lane(true);
    const auto problems = run_layers(*exchange, group_.rank, batches(made, 5), lane);
    EXPECT_TRUE(problems.empty()) << num_ubatches << " ubatches, seed " << seed_ << "\n"
                                  << join_problems(problems);
  }
}

// More tokens than one round of a scan takes, more rows than a grid has CTAs; against the host.
TEST_P(DeviceExchange, LargeBatchesAgreeWithTheHost) {
  DOVETAIL_REQUIRE_GPU();
  const auto made = shape(16, std::min(8, group_.size * 16), 1, 64);
  const auto exchange = make(made, 2500);
  for (const auto routing : {Routing::uniform, Routing::skewed, Routing::padding}) {
    const auto batch = make_batch(made, tokens(seed_ % 4, 2500), routing, Weights::random, seed_);
    const auto here = run_pass(*exchange, 0, batch, group_.rank);
    auto on_host = made;
    on_host.sum_order = SumOrder::by_rank;  // rows do not depend on it
    const auto there = run_pass(*group_.make("gather", on_host), 0, batch, group_.rank);
    EXPECT_TRUE(here.offsets.equal(there.offsets)) << "seed " << seed_;
    ASSERT_EQ(here.rows.sizes(), there.rows.sizes());
    EXPECT_TRUE(here.rows.equal(there.rows)) << "seed " << seed_;
    EXPECT_EQ(join_problems(check_output(batch, group_.rank, here.output)), "") << "seed " << seed_;
  }
}

/// Host ranks have this order, too.
class DeviceExchangeByRank : public DeviceExchange {};

// Random payload, no integers: what the oracle rounds away must be equal, too.
TEST_P(DeviceExchangeByRank, AgreesWithTheHostToTheBit) {
  DOVETAIL_REQUIRE_GPU();
  for (const std::int64_t hidden : {9, 24}) {
    const auto made = shape(3, std::min(4, group_.size * 3), 1, hidden);
    const auto exchange = make(made);
    for (std::uint64_t pass = 0; pass < 6; ++pass) {
      auto batch = make_batch(
          made, tokens(seed_ + pass), kAllRoutings[pass], weights_of(pass), seed_ + pass);
      std::uint64_t state = seed_ + pass;
      for (auto& value : batch.ranks[static_cast<std::size_t>(group_.rank)].hidden) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        value = static_cast<float>(static_cast<double>(state >> 40) * 0x1p-23 - 1);
      }
      const auto here = run_pass(*exchange, 0, batch, group_.rank);
      const auto there = run_pass(*group_.make("ragged", made), 0, batch, group_.rank);
      EXPECT_TRUE(here.rows.equal(there.rows)) << "seed " << seed_ << " pass " << pass;
      EXPECT_TRUE(here.offsets.equal(there.offsets)) << "seed " << seed_ << " pass " << pass;
      ASSERT_EQ(here.output.sizes(), there.output.sizes());
      EXPECT_EQ(
          std::memcmp(
              here.output.const_data_ptr(), there.output.const_data_ptr(), here.output.nbytes()),
          0)
          << "seed " << seed_ << " pass " << pass;
    }
  }
}

TEST_P(DeviceExchange, FaultsAreCaught) {
  DOVETAIL_REQUIRE_GPU();
  const auto made = shape(4, 3);
  const auto is_caught = [&](FacadeFault fault) {
    const auto exchange = make(made, kMaxTokens + 1, fault);
    // Where the wire is left out, nothing right may lie in the buffers.
    poison(*exchange, made, kMaxTokens + 1);
    std::vector<std::vector<GroupBatch>> layers;
    for (std::uint64_t layer = 0; layer < 3; ++layer) {
      layers.push_back(
          {make_batch(made, tokens(0), Routing::uniform, Weights::random, seed_ + layer)});
    }
    CommLane lane(false);
    return on_any_rank(!run_layers(*exchange, group_.rank, layers, lane).empty());
  };
  EXPECT_FALSE(is_caught(FacadeFault::none));
  EXPECT_TRUE(is_caught(FacadeFault::drops_last_row));
  EXPECT_TRUE(is_caught(FacadeFault::swaps_peers));
  EXPECT_TRUE(is_caught(FacadeFault::reads_dead_tail));
  if (group_.size > 1) {
    EXPECT_TRUE(is_caught(FacadeFault::misses_the_wire));
  }
}

INSTANTIATE_TEST_SUITE_P(BackEnds,
                         DeviceExchange,
                         all_in({SumOrder::by_rank, SumOrder::by_expert}),
                         name_of);
INSTANTIATE_TEST_SUITE_P(BackEnds, DeviceExchangeByRank, all_in({SumOrder::by_rank}), name_of);

}  // namespace
}  // namespace dovetail::test
