// Groups of experts in device exchanges: rows and sums of each group, plans, and who refuses them.
#include <string>
#include <vector>

#include "framework/base/error.hpp"
#include "framework/comm/exchange/exchange_table.hpp"
#include "tests/gpu/exchange_device_fixture.hpp"

namespace dovetail::test {
namespace {

/// Those that take the experts of a rank in groups.
class DeviceExchangeInGroups : public DeviceExchange {};

// A dispatch beside the experts of the group before and the combine of the one before that.
TEST_P(DeviceExchangeInGroups, EveryRoutingBesideItsExchange) {
  DOVETAIL_REQUIRE_GPU();
  constexpr int experts_per_rank = 5;
  for (const int num_groups : {2, 3, 4}) {
    for (const int num_ubatches : {1, 2}) {
      for (const std::int64_t hidden : {9, 24}) {
        const int k = std::min(num_groups == 3 ? 1 : 4, group_.size * experts_per_rank);
        const auto made = shape(experts_per_rank, k, num_ubatches, hidden);
        const auto exchange = make(made);
        poison(*exchange, made, kMaxTokens + 1);
        CommLane lane(true);
        const auto layers = batches(made, 12);
        const auto problems = run_layers(*exchange, group_.rank, layers, lane, num_groups);
        EXPECT_TRUE(problems.empty())
            << num_groups << " groups, " << num_ubatches << " ubatches, hidden " << hidden
            << ", seed " << seed_ << "\n"
            << join_problems(problems);
        // The next step may be one without a cut.
        EXPECT_EQ(join_problems(run_layers(*exchange, group_.rank, layers, lane)), "");
        EXPECT_NO_THROW(exchange->buffers().check_step());
      }
    }
  }
}

// More tokens than one round of a scan takes, more rows than a grid has CTAs.
TEST_P(DeviceExchangeInGroups, LargeBatches) {
  DOVETAIL_REQUIRE_GPU();
  const auto made = shape(16, std::min(8, group_.size * 16), 1, 64);
  const auto exchange = make(made, 2500);
  std::vector<std::vector<GroupBatch>> layers;
  for (const auto routing : {Routing::uniform, Routing::skewed, Routing::padding}) {
    layers.push_back({make_batch(made, tokens(seed_ % 4, 2500), routing, Weights::random, seed_)});
  }
  CommLane lane(true);
  for (const int num_groups : {2, 8}) {
    EXPECT_EQ(join_problems(run_layers(*exchange, group_.rank, layers, lane, num_groups)), "")
        << num_groups << " groups, seed " << seed_;
  }
}

TEST_P(DeviceExchangeInGroups, FaultsBetweenGroupsAreCaught) {
  DOVETAIL_REQUIRE_GPU();
  const auto is_caught = [&](FacadeFault fault, int top_k) {
    const auto made = shape(4, top_k);
    const auto exchange = make(made, kMaxTokens + 1, fault);
    poison(*exchange, made, kMaxTokens + 1);
    std::vector<std::vector<GroupBatch>> layers;
    for (std::uint64_t layer = 0; layer < 3; ++layer) {
      layers.push_back(
          {make_batch(made, tokens(0), Routing::one_rank, Weights::random, seed_ + layer)});
    }
    CommLane lane(false);
    return on_any_rank(!run_layers(*exchange, group_.rank, layers, lane, 2).empty());
  };
  EXPECT_FALSE(is_caught(FacadeFault::none, 1));
  EXPECT_FALSE(is_caught(FacadeFault::none, 3));
  EXPECT_TRUE(is_caught(FacadeFault::forgets_a_group, 3));
  if (group_.size > 1) {
    // With one choice, half of the rows leave with the second group.
    EXPECT_TRUE(is_caught(FacadeFault::misses_a_group, 1));
  }
}

// A kept plan runs again whole, and each side of the overlap alone.
TEST_P(DeviceExchangeInGroups, PlansKeepTheirGroups) {
  DOVETAIL_REQUIRE_GPU();
  constexpr int num_groups = 3;
  const auto made = shape(3, std::min(4, group_.size * 3), 1, 24);
  const auto exchange = make(made);
  const auto batch = make_batch(made, tokens(1), Routing::uniform, Weights::random, seed_);
  auto in = to_tensors(batch, group_.rank);
  in.num_groups = num_groups;
  const auto compute = [&] {
    for (int group = 0; group < num_groups; ++group) {
      const auto rows = exchange->arrange(0, group);
      exchange->reduce(0, group, apply_experts(made, group_.rank, rows));
    }
  };
  const auto dispatch = [&] {
    for (int group = 0; group < num_groups; ++group) {
      exchange->dispatch(0, group);
    }
  };
  const auto combine = [&] {
    for (int group = 0; group < num_groups; ++group) {
      exchange->combine(0, group);
    }
  };
  exchange->prepare(0, in);
  const auto plan = exchange->plans().plan(0);
  dispatch();
  const auto first = exchange->arrange(0, 0);
  EXPECT_THROW(exchange->plans().adopt(0, plan), ContractError) << "later groups have not arrived";
  exchange->reduce(0, 0, apply_experts(made, group_.rank, first));
  for (int group = 1; group < num_groups; ++group) {
    const auto rows = exchange->arrange(0, group);
    exchange->reduce(0, group, apply_experts(made, group_.rank, rows));
  }
  combine();
  const auto output = exchange->finish(0).clone();
  EXPECT_EQ(join_problems(check_output(batch, group_.rank, output)), "");
  const auto traffic = exchange->meter().traffic();
  poison(*exchange, made, kMaxTokens);

  exchange->plans().prepare_again(0, in, plan);
  dispatch();
  compute();
  combine();
  EXPECT_TRUE(exchange->finish(0).equal(output));

  exchange->meter().reset();
  exchange->plans().adopt(0, plan);
  dispatch();
  combine();
  const auto wire = exchange->meter().traffic();
  EXPECT_EQ(wire.dispatch_wire_bytes, traffic.dispatch_wire_bytes);
  EXPECT_EQ(wire.combine_received_bytes, traffic.combine_received_bytes);
  exchange->plans().prepare_again(0, in, plan);
  compute();
  EXPECT_EQ(exchange->finish(0).sizes(), output.sizes());
  EXPECT_EQ(exchange->meter().traffic().combine_wire_bytes, wire.combine_wire_bytes);
}

/// Exchanges on GPUs, by whether they take groups.
std::vector<std::string> exchanges_in_groups(bool take_them) {
  std::vector<std::string> names;
  for (const auto& row : exchange_table()) {
    if (row.on_gpu && (row.on_gpu->max_groups > 1) == take_them) {
      names.push_back(row.name);
    }
  }
  return names;
}

TEST(DeviceExchangeOfOneGroup, RefusesGroups) {
  DOVETAIL_REQUIRE_GPU();
  const TestGroup group;
  const auto made = group.shape(4, 2);
  for (const auto& kind : exchanges_in_groups(false)) {
    ExchangeFacade exchange(make_on_gpu(group, kind, made), made, kMaxTokens);
    auto in = to_tensors(make_batch(made,
                                    tokens_per_rank(group.size, 0, kMaxTokens),
                                    Routing::uniform,
                                    Weights::random,
                                    fresh_seed()),
                         group.rank);
    in.num_groups = 2;
    EXPECT_THROW(exchange.prepare(0, in), ContractError) << kind;
  }
}

INSTANTIATE_TEST_SUITE_P(BackEnds,
                         DeviceExchangeInGroups,
                         all_in({SumOrder::by_rank, SumOrder::by_expert},
                                exchanges_in_groups(true)),
                         name_of);

}  // namespace
}  // namespace dovetail::test
