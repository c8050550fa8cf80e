// What every exchange must do, whatever its wire: all back ends of host ranks that the table has.
#include "tests/mpi/exchange_conformance.hpp"

#include <cstring>
#include <numeric>
#include <string>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/mpi/check.hpp"

namespace dovetail::test {
namespace {

std::vector<std::string> back_ends() {
  auto names = built_exchanges(/*on_gpu=*/false);
  names.emplace_back(kRaggedOverLink);
  return names;
}

TEST_P(ExchangeConformance, EveryRoutingAndTokenCountForEveryK) {
  CommLane lane(false);
  for (const int experts_per_rank : {1, 3}) {
    for (int k = 1; k <= group_.size * experts_per_rank; ++k) {
      const auto made = shape(experts_per_rank, k);
      const auto exchange = make(made);
      poison(*exchange, made, kMaxTokens + 1);
      std::vector<std::vector<GroupBatch>> layers;
      std::uint64_t variant = seed_ % 1000;
      for (const auto routing : kAllRoutings) {
        for (int i = 0; i < 5; ++i) {
          ++variant;
          layers.push_back(
              {make_batch(made, tokens(variant), routing, weights_of(variant), seed_ + variant)});
        }
      }
      const auto problems = run_layers(*exchange, group_.rank, layers, lane);
      EXPECT_TRUE(problems.empty())
          << "k " << k << ", " << experts_per_rank << " experts per rank\n"
          << join_problems(problems);
    }
  }
}

TEST_P(ExchangeConformance, UbatchesInFlightOnACommThread) {
  for (int num_ubatches = 1; num_ubatches <= 8; ++num_ubatches) {
    const auto made = shape(2, std::min(3, group_.size * 2), num_ubatches);
    const auto exchange = make(made);
    poison(*exchange, made, kMaxTokens);
    CommLane lane(true);
    std::vector<std::vector<GroupBatch>> layers(5);
    std::uint64_t variant = seed_ % 1000;
    for (auto& layer : layers) {
      for (int u = 0; u < num_ubatches; ++u) {
        ++variant;
        layer.push_back(make_batch(made,
                                   tokens(variant),
                                   kAllRoutings[variant % std::size(kAllRoutings)],
                                   weights_of(variant),
                                   seed_ + variant));
      }
    }
    const auto problems = run_layers(*exchange, group_.rank, layers, lane);
    EXPECT_TRUE(problems.empty()) << num_ubatches << " ubatches\n" << join_problems(problems);
  }
}

TEST_P(ExchangeConformance, GroupsOfExpertsBesideTheirExchange) {
  for (const int num_groups : {2, 3, 4}) {
    for (const int num_ubatches : {1, 2}) {
      for (const int top_k : {1, 4}) {
        const auto made = shape(5, std::min(top_k, group_.size * 5), num_ubatches);
        const auto exchange = make(made);
        poison(*exchange, made, kMaxTokens + 1);
        CommLane lane(true);
        std::vector<std::vector<GroupBatch>> layers(2 * std::size(kAllRoutings));
        std::uint64_t variant = seed_ % 1000;
        for (std::size_t layer = 0; layer < layers.size(); ++layer) {
          for (int u = 0; u < num_ubatches; ++u) {
            ++variant;
            layers[layer].push_back(make_batch(made,
                                               tokens(variant),
                                               kAllRoutings[layer % std::size(kAllRoutings)],
                                               weights_of(variant),
                                               seed_ + variant));
          }
        }
        const auto problems = run_layers(*exchange, group_.rank, layers, lane, num_groups);
        EXPECT_TRUE(problems.empty())
            << num_groups << " groups, " << num_ubatches << " ubatches, k " << top_k << "\n"
            << join_problems(problems);
        // The next step may be one without a cut.
        EXPECT_EQ(join_problems(run_layers(*exchange, group_.rank, layers, lane)), "");
      }
    }
  }
}

TEST_P(ExchangeConformance, GroupsKeepTheirOrder) {
  const auto made = shape(2, 2);
  const auto exchange = make(made);
  auto in = to_tensors(make_batch(made, tokens(0), Routing::uniform, Weights::random, seed_),
                       group_.rank);
  in.num_groups = 3;
  EXPECT_THROW(exchange->prepare(0, in), ContractError) << "a group without experts";
  in.num_groups = 2;
  exchange->prepare(0, in);
  EXPECT_THROW(exchange->dispatch(0, 1), ContractError);
  exchange->dispatch(0, 0);
  EXPECT_THROW(exchange->arrange(0, 1), ContractError);
  EXPECT_THROW(exchange->combine(0, 0), ContractError);
  const auto first = exchange->arrange(0, 0);
  EXPECT_THROW(exchange->reduce(0, 1, first.rows), ContractError);
  exchange->reduce(0, 0, first.rows);
  EXPECT_THROW(exchange->arrange(0, 1), ContractError) << "its dispatch has not run";
  exchange->dispatch(0, 1);
  EXPECT_THROW(exchange->combine(0, 1), ContractError) << "a partial sum before its last group";
  EXPECT_THROW(exchange->dispatch(0, 2), ContractError);
  EXPECT_THROW(exchange->finish(0), ContractError);
  const auto second = exchange->arrange(0, 1);
  exchange->reduce(0, 1, second.rows);
  EXPECT_THROW(exchange->combine(0, 1), ContractError);
  exchange->combine(0, 0);
  EXPECT_THROW(exchange->finish(0), ContractError);
  exchange->combine(0, 1);
  EXPECT_NO_THROW(exchange->finish(0));
}

TEST_P(ExchangeConformance, AdoptedPlanOfGroupsRunsEitherLaneAlone) {
  const auto made = shape(4, std::min(3, group_.size * 4));
  const auto exchange = make(made);
  CommLane lane(false);
  const auto batch = make_batch(made, tokens(1), Routing::uniform, Weights::random, seed_);
  EXPECT_EQ(join_problems(run_layers(*exchange, group_.rank, {{batch}}, lane, 4)), "");
  const auto full = exchange->meter().traffic();
  const auto plan = exchange->plans().plan(0);
  exchange->meter().reset();
  for (const bool is_dispatch : {true, false}) {
    for (int group = 0; group < 4; ++group) {
      exchange->plans().adopt(0, plan);
      is_dispatch ? exchange->dispatch(0, group) : exchange->combine(0, group);
    }
  }
  EXPECT_EQ(exchange->meter().traffic().combine_wire_bytes, full.combine_wire_bytes);
  EXPECT_EQ(exchange->meter().traffic().dispatch_wire_bytes,
            full.dispatch_wire_bytes - std::int64_t{8} * 4 * (group_.size - 1))
      << "all but the counts";
  exchange->plans().prepare_again(0, to_tensors(batch, group_.rank), plan);
  std::int64_t num_rows = 0;
  for (int group = 0; group < 4; ++group) {
    const auto rows = exchange->arrange(0, group);
    num_rows += rows.rows.size(0);
    exchange->reduce(0, group, rows.rows);
  }
  EXPECT_EQ(exchange->finish(0).size(0), batch.ranks.at(index_of_rank()).num_tokens);
  const auto counts = plan->tokens_per_expert();
  EXPECT_EQ(num_rows, std::accumulate(counts.begin(), counts.end(), std::int64_t{0}));
}

// The last rank dispatches ubatch 0 only after all others have prepared ubatch 1: so their prepare
// runs while their dispatch of ubatch 0 is on the wire. (One rank alone has no wire.)
TEST_P(ExchangeConformance, PrepareRunsBesideADispatch) {
  const int last = group_.size - 1;
  const auto made = shape(2, group_.size * 2, 2);
  const auto exchange = make(made);
  const auto first = make_batch(made, tokens(0), Routing::uniform, Weights::random, seed_);
  const auto second = make_batch(made, tokens(1), Routing::skewed, Weights::random, seed_ + 1);
  const MpiComm control = MpiComm::duplicate(group_.exchange_comm.raw());
  CommLane lane(true);

  const auto in = to_tensors(first, group_.rank);
  exchange->prepare(0, in);
  std::future<void> dispatched;
  if (group_.rank != last) {
    dispatched = lane.submit([&] { exchange->dispatch(0, 0); });
  }
  const auto next = to_tensors(second, group_.rank);
  exchange->prepare(1, next);
  if (group_.rank != last) {
    int ready = 1;
    MPI_Request request = MPI_REQUEST_NULL;
    DOVETAIL_MPI(MPI_Isend(&ready, 1, MPI_INT, last, 0, control.raw(), &request));
    wait_all({&request, 1}, group_.policy, "ready");
  } else {
    std::vector<int> ready(static_cast<std::size_t>(last));
    std::vector<MPI_Request> requests(ready.size());
    for (int r = 0; r < last; ++r) {
      const auto i = static_cast<std::size_t>(r);
      DOVETAIL_MPI(MPI_Irecv(&ready[i], 1, MPI_INT, r, 0, control.raw(), &requests[i]));
    }
    wait_all(requests, group_.policy, "all others ready");
    dispatched = lane.submit([&] { exchange->dispatch(0, 0); });
  }
  dispatched.get();
  exchange->dispatch(1, 0);
  int ubatch = 0;
  for (const auto* batch : {&first, &second}) {
    const auto rows = exchange->arrange(ubatch, 0);
    EXPECT_EQ(join_problems(check_expert_rows(*batch, group_.rank, rows)), "");
    exchange->reduce(ubatch, 0, apply_experts(made, group_.rank, rows));
    exchange->combine(ubatch, 0);
    EXPECT_EQ(join_problems(check_output(*batch, group_.rank, exchange->finish(ubatch))), "");
    ++ubatch;
  }
}

TEST_P(ExchangeConformance, PlanRunsAgainWithOtherRows) {
  const auto made = shape(3, std::min(4, group_.size * 3), 2);
  const auto exchange = make(made);
  auto batch =
      make_batch(made, tokens(1 + 5 * (seed_ % 7)), Routing::padding, Weights::random, seed_);
  run_pass(*exchange, 0, batch, group_.rank);
  const auto plan = exchange->plans().plan(0);
  // Other batches in between, in both ubatches: the plan must not depend on the exchange's state.
  poison(*exchange, made, kMaxTokens);

  for (auto& rank : batch.ranks) {
    for (auto& value : rank.hidden) {
      value = value >= 100 ? value - 99 : value + 3;
    }
  }
  for (const int ubatch : {1, 0, 1}) {
    exchange->plans().prepare_again(ubatch, to_tensors(batch, group_.rank), plan);
    exchange->dispatch(ubatch, 0);
    const auto rows = exchange->arrange(ubatch, 0);
    EXPECT_EQ(join_problems(check_expert_rows(batch, group_.rank, rows)), "");
    exchange->reduce(ubatch, 0, apply_experts(made, group_.rank, rows));
    exchange->combine(ubatch, 0);
    EXPECT_EQ(join_problems(check_output(batch, group_.rank, exchange->finish(ubatch))), "");
  }
}

TEST_P(ExchangeConformance, AdoptedPlanRunsEitherLaneAlone) {
  const auto made = shape(2, 2, 2);
  std::shared_ptr<ExchangePlan> plan;
  const auto batch = make_batch(made, tokens(1), Routing::uniform, Weights::random, seed_);
  PassResult full;
  {
    const auto exchange = make(made);
    full = run_pass(*exchange, 0, batch, group_.rank);
    plan = exchange->plans().plan(0);
  }
  const auto exchange = make(made);  // its buffers have no size yet
  for (int pass = 0; pass < 2; ++pass) {
    exchange->plans().adopt(1, plan);
    exchange->dispatch(1, 0);
    exchange->combine(1, 0);
  }
  const auto wire = exchange->meter().traffic();
  exchange->plans().adopt(0, plan);
  const auto rows = exchange->arrange(0, 0);
  EXPECT_EQ(rows.rows.sizes(), full.rows.sizes());
  EXPECT_TRUE(rows.offsets.equal(full.offsets));
  exchange->reduce(0, 0, rows.rows);
  EXPECT_EQ(exchange->finish(0).sizes(), full.output.sizes());
  EXPECT_EQ(exchange->meter().traffic().dispatch_wire_bytes, wire.dispatch_wire_bytes);
  EXPECT_EQ(exchange->meter().traffic().combine_wire_bytes, wire.combine_wire_bytes);

  // A full pass over adopted buffers, and one with a new routing.
  EXPECT_TRUE(run_pass(*exchange, 0, batch, group_.rank).output.equal(full.output));
}

TEST_P(ExchangeConformance, CountsLogicalBytesAndTokensPerExpert) {
  const auto made = shape(3, std::min(3, group_.size * 3));
  const auto exchange = make(made);
  const auto mine = static_cast<std::size_t>(group_.rank);
  std::int64_t choices = 0;
  std::vector<std::shared_ptr<ExchangePlan>> plans;
  std::vector<std::vector<std::int64_t>> expected;
  for (std::uint64_t pass = 0; pass < 3; ++pass) {
    const auto batch =
        make_batch(made, tokens(pass), Routing::padding, Weights::random, seed_ + pass);
    std::vector<std::int64_t> per_expert(static_cast<std::size_t>(made.num_experts));
    run_pass(*exchange, 0, batch, group_.rank);
    for (std::size_t r = 0; r < batch.ranks.size(); ++r) {
      for (const auto expert : batch.ranks[r].expert_ids) {
        if (expert >= 0) {
          ++per_expert[static_cast<std::size_t>(expert)];
          choices += r == mine ? 1 : 0;
        }
      }
    }
    const auto first = per_expert.begin() + group_.rank * 3;
    expected.emplace_back(first, first + 3);
    plans.push_back(exchange->plans().plan(0));
  }
  // A plan keeps its counts whatever came after it.
  for (std::size_t pass = 0; pass < plans.size(); ++pass) {
    EXPECT_EQ(plans[pass]->tokens_per_expert(), expected[pass]) << "pass " << pass;
  }
  const auto bytes =
      choices * made.hidden * static_cast<std::int64_t>(c10::elementSize(made.dtype));
  const auto& traffic = exchange->meter().traffic();
  EXPECT_EQ(traffic.dispatch_logical_bytes, bytes);
  EXPECT_EQ(traffic.combine_logical_bytes, bytes);
  EXPECT_EQ(traffic.dispatch_wire_bytes == 0, group_.size == 1);
  exchange->meter().reset();
  EXPECT_EQ(exchange->meter().traffic().dispatch_wire_bytes, 0);
}

// Random payload, no integers: what the oracle rounds away must be equal, too.
TEST_P(ExchangeConformance, AgreesWithTheOtherBackEndsToTheBit) {
  const auto made = shape(3, std::min(4, group_.size * 3));
  const auto exchange = make(made);
  for (std::uint64_t pass = 0; pass < 6; ++pass) {
    auto batch =
        make_batch(made, tokens(seed_ + pass), kAllRoutings[pass], weights_of(pass), seed_ + pass);
    std::uint64_t state = seed_ + pass;
    for (auto& value : batch.ranks[static_cast<std::size_t>(group_.rank)].hidden) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      value = static_cast<float>(static_cast<double>(state >> 40) * 0x1p-23 - 1);
    }
    const auto here = run_pass(*exchange, 0, batch, group_.rank);
    for (const auto& other : back_ends()) {
      const auto theirs = run_pass(*group_.make(other, made), 0, batch, group_.rank);
      EXPECT_TRUE(here.rows.equal(theirs.rows));
      EXPECT_TRUE(here.offsets.equal(theirs.offsets));
      ASSERT_EQ(here.output.sizes(), theirs.output.sizes());
      EXPECT_EQ(
          std::memcmp(
              here.output.const_data_ptr(), theirs.output.const_data_ptr(), here.output.nbytes()),
          0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(BackEnds,
                         ExchangeConformance,
                         ::testing::Combine(::testing::ValuesIn(back_ends()),
                                            ::testing::Values(at::kFloat, at::kBFloat16, at::kHalf),
                                            ::testing::Values(SumOrder::by_rank,
                                                              SumOrder::by_choice)),
                         [](const auto& suite) {
                           return std::get<0>(suite.param) + "_" +
                                  c10::toString(std::get<1>(suite.param)) + "_" +
                                  std::string(to_string(std::get<2>(suite.param)));
                         });

}  // namespace
}  // namespace dovetail::test
