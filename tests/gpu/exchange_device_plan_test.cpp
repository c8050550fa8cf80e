// Device exchanges: plans, bounds, memory, and what is refused or found.
#include <memory>

#include <ATen/ops/isnan.h>

#include "framework/base/error.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/comm/exchange/received_poison.hpp"
#include "framework/cuda/check.hpp"
#include "tests/gpu/exchange_device_fixture.hpp"

namespace dovetail::test {
namespace {

TEST_P(DeviceExchange, PlanRunsAgainWithOtherRows) {
  DOVETAIL_REQUIRE_GPU();
  const auto made = shape(3, std::min(4, group_.size * 3), 2);
  const auto exchange = make(made);
  auto batch =
      make_batch(made, tokens(1 + 5 * (seed_ % 7)), Routing::padding, Weights::random, seed_);
  const auto tensors = to_tensors(batch, group_.rank);
  exchange->prepare(0, tensors);
  const auto plan = exchange->plans().plan(0);
  EXPECT_THROW(exchange->plans().adopt(0, plan), ContractError);  // nothing has arrived
  exchange->dispatch(0, 0);
  exchange->reduce(0, 0, apply_experts(made, group_.rank, exchange->arrange(0, 0)));
  exchange->combine(0, 0);
  exchange->finish(0);
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
  EXPECT_THROW(make(shape(3, 1))->plans().adopt(0, plan), ContractError);
  auto other_sum = made;
  other_sum.sum_order =
      made.sum_order == SumOrder::by_rank ? SumOrder::by_expert : SumOrder::by_rank;
  EXPECT_THROW(make(other_sum)->plans().adopt(0, plan), ContractError);
  EXPECT_THROW(make(made, kMaxTokens)->plans().adopt(0, plan), ContractError);
  EXPECT_THROW(exchange->plans().adopt(0, nullptr), ContractError);
}

TEST_P(DeviceExchange, AdoptedPlanRunsEitherLaneAlone) {
  DOVETAIL_REQUIRE_GPU();
  const auto made = shape(2, 2, 2);
  std::shared_ptr<ExchangePlan> plan;
  const auto batch = make_batch(made, tokens(1), Routing::uniform, Weights::random, seed_);
  const auto exchange = make(made);
  const auto tensors = to_tensors(batch, group_.rank);
  exchange->prepare(0, tensors);
  plan = exchange->plans().plan(0);
  exchange->dispatch(0, 0);
  const auto full = exchange->arrange(0, 0);
  exchange->reduce(0, 0, apply_experts(made, group_.rank, full));
  exchange->combine(0, 0);
  const auto output = exchange->finish(0);

  const auto other = make(made);
  for (int pass = 0; pass < 2; ++pass) {
    other->plans().adopt(1, plan);
    other->dispatch(1, 0);
    other->plans().adopt(1, plan);
    other->combine(1, 0);
  }
  const auto wire = other->meter().traffic();
  EXPECT_EQ(wire.dispatch_wire_bytes > 0, group_.size > 1);
  other->plans().prepare_again(0, tensors, plan);
  const auto rows = other->arrange(0, 0);
  EXPECT_EQ(rows.rows.sizes(), full.rows.sizes());
  EXPECT_TRUE(rows.offsets.equal(full.offsets));
  other->reduce(0, 0, rows.rows);
  EXPECT_EQ(other->finish(0).sizes(), output.sizes());
  EXPECT_EQ(other->meter().traffic().dispatch_wire_bytes, wire.dispatch_wire_bytes);
  EXPECT_EQ(other->meter().traffic().combine_wire_bytes, wire.combine_wire_bytes);
  EXPECT_TRUE(run_pass(*other, 0, batch, group_.rank).output.equal(output));
}

TEST_P(DeviceExchange, CountsBytesAndTokensPerExpert) {
  DOVETAIL_REQUIRE_GPU();
  const auto made = shape(3, std::min(3, group_.size * 3));
  const auto exchange = make(made);
  const auto row_bytes = made.hidden * static_cast<std::int64_t>(c10::elementSize(made.dtype));
  std::int64_t choices = 0;
  std::int64_t remote_rows = 0;
  std::vector<std::shared_ptr<ExchangePlan>> plans;
  std::vector<std::vector<std::int64_t>> expected;
  for (std::uint64_t pass = 0; pass < 3; ++pass) {
    const auto batch =
        make_batch(made, tokens(pass), Routing::padding, Weights::random, seed_ + pass);
    const auto in = to_tensors(batch, group_.rank);
    std::vector<std::int64_t> per_expert(static_cast<std::size_t>(made.num_experts));
    exchange->prepare(0, in);
    plans.push_back(exchange->plans().plan(0));
    EXPECT_THROW(plans.back()->tokens_per_expert(), ContractError);
    exchange->dispatch(0, 0);
    const auto rows = exchange->arrange(0, 0);
    exchange->reduce(0, 0, apply_experts(made, group_.rank, rows));
    exchange->combine(0, 0);
    exchange->finish(0);
    for (int r = 0; r < group_.size; ++r) {
      for (const auto expert : batch.ranks[static_cast<std::size_t>(r)].expert_ids) {
        if (expert >= 0) {
          ++per_expert[static_cast<std::size_t>(expert)];
          choices += r == group_.rank ? 1 : 0;
        }
      }
    }
    remote_rows += count_remote_rows(batch, group_.rank);
    const auto first = per_expert.begin() + group_.rank * 3;
    expected.emplace_back(first, first + 3);
  }
  for (std::size_t pass = 0; pass < plans.size(); ++pass) {
    EXPECT_EQ(plans[pass]->tokens_per_expert(), expected[pass]) << "pass " << pass;
  }
  const auto traffic = exchange->meter().traffic();
  EXPECT_EQ(traffic.dispatch_logical_bytes, choices * row_bytes);
  EXPECT_EQ(traffic.combine_logical_bytes, choices * row_bytes);
  EXPECT_EQ(traffic.dispatch_wire_bytes == 0, group_.size == 1);
  if (group_.size > 1) {
    EXPECT_GE(traffic.dispatch_wire_bytes, remote_rows * row_bytes);
  }
  exchange->meter().reset();
  EXPECT_EQ(exchange->meter().traffic().dispatch_wire_bytes, 0);
  EXPECT_EQ(exchange->meter().traffic().dispatch_logical_bytes, 0);
}

/// A wire call that is left out shows what an earlier one has left: numbers, or NaN once they are
/// poisoned.
TEST_P(DeviceExchange, StaleRowsAreSeenOncePoisoned) {
  DOVETAIL_REQUIRE_GPU();
  const auto made = shape(2, 2 * group_.size, 1, 24);
  const auto exchange = make(made, 9);
  const std::vector<std::int64_t> counts(static_cast<std::size_t>(group_.size), 9);
  const auto batch = make_batch(made, counts, Routing::uniform, Weights::random, seed_);
  const auto in = to_tensors(batch, group_.rank);
  std::shared_ptr<ExchangePlan> plan;
  const auto pass = [&](bool again, bool dispatches, bool combines) {
    if (again) {
      exchange->plans().prepare_again(0, in, plan);
    } else {
      exchange->prepare(0, in);
      plan = exchange->plans().plan(0);
    }
    if (dispatches) {
      exchange->dispatch(0, 0);
    }
    const auto rows = exchange->arrange(0, 0);
    const auto arranged = rows.rows.clone();
    exchange->reduce(0, 0, apply_experts(made, group_.rank, rows));
    if (combines) {
      exchange->combine(0, 0);
    }
    const auto output = exchange->finish(0).clone();
    check_cuda(cudaDeviceSynchronize(), "end of a pass");
    return dispatches ? output : arranged;
  };
  const auto output = pass(false, true, true);
  for (const Phase phase : {Phase::dispatch, Phase::combine}) {
    for (const bool poisons : {false, true}) {
      if (poisons) {
        poison_received(*exchange, 0, phase);
        check_cuda(cudaDeviceSynchronize(), "poison");
      }
      const auto stale = pass(true, phase != Phase::dispatch, phase != Phase::combine);
      EXPECT_EQ(at::isnan(stale).any().item<bool>(), poisons && group_.size > 1)
          << to_string(phase) << " seed " << seed_;
      EXPECT_TRUE(pass(false, true, true).equal(output)) << "a right pass does not notice";
    }
  }
}

TEST_P(DeviceExchange, BoundsChangeBetweenSteps) {
  DOVETAIL_REQUIRE_GPU();
  const auto made = shape(2, 2, 2, 24);
  const auto exchange = make(made, 4);
  auto generation = exchange->inner().buffers().generation();
  for (const std::int64_t bound : {12, 3, 0, 7, 12}) {
    const std::int64_t bounds[] = {bound, bound / 2};
    exchange->buffers().begin_step(bounds, kTestCommSms);
    if (bound == 12 && generation != exchange->inner().buffers().generation()) {
      generation = exchange->inner().buffers().generation();
    } else {
      EXPECT_EQ(generation, exchange->inner().buffers().generation()) << "bound " << bound;
    }
    for (int u = 0; u < 2; ++u) {
      const auto batch =
          make_batch(made, tokens(seed_ % 5, bounds[u]), Routing::uniform, Weights::random, seed_);
      const auto in = to_tensors(batch, group_.rank);
      exchange->prepare(u, in);
      exchange->dispatch(u, 0);
      const auto rows = exchange->arrange(u, 0);
      EXPECT_EQ(join_problems(check_expert_rows(batch, group_.rank, rows)), "")
          << "bound " << bound << " seed " << seed_;
      exchange->reduce(u, 0, apply_experts(made, group_.rank, rows));
      exchange->combine(u, 0);
      EXPECT_EQ(join_problems(check_output(batch, group_.rank, exchange->finish(u))), "")
          << "bound " << bound << " seed " << seed_;
    }
  }
  EXPECT_GT(generation, 1U);
}

TEST_P(DeviceExchange, BuffersTakeWhatWasAnnounced) {
  DOVETAIL_REQUIRE_GPU();
  const auto made = shape(3, std::min(4, group_.size * 3), 2, 24);
  const auto exchange = make(made, 100);
  EXPECT_EQ(exchange->buffers().bytes(),
            exchange_buffer_bytes(std::get<0>(GetParam()), /*on_gpu=*/true, made, 100, 1.0));
}

TEST_P(DeviceExchange, MalformedTensorsAreRefused) {
  DOVETAIL_REQUIRE_GPU();
  const auto made = shape(2, 2);
  const auto exchange = make(made, 8);
  const auto in = to_tensors(
      make_batch(made, tokens(0, 8), Routing::uniform, Weights::random, seed_), group_.rank);
  auto& inner = exchange->inner();
  const auto hidden = to_gpu(in.hidden);
  const auto ids = to_gpu(in.expert_ids);
  const auto weights = to_gpu(in.weights);
  EXPECT_THROW(inner.prepare(0, {in.hidden, ids, weights}), ContractError);  // on the host
  EXPECT_THROW(inner.prepare(0, {hidden.to(at::kDouble), ids, weights}), ContractError);
  EXPECT_THROW(inner.prepare(0, {hidden.narrow(1, 0, 4), ids, weights}), ContractError);
  EXPECT_THROW(inner.prepare(0, {hidden, ids.to(at::kInt), weights}), ContractError);
  EXPECT_THROW(inner.prepare(0, {hidden, ids, weights.to(at::kDouble)}), ContractError);
  EXPECT_THROW(inner.prepare(1, {hidden, ids, weights}), ContractError);
  EXPECT_THROW(inner.reduce(0, 0, hidden), ContractError);
  const std::int64_t smaller[] = {7};
  exchange->buffers().begin_step(smaller, kTestCommSms);
  EXPECT_THROW(inner.prepare(0, {hidden, ids, weights}), ContractError);  // 8 tokens, bound 7
}

TEST_P(DeviceExchange, WrongIdsAreFoundAfterTheStep) {
  DOVETAIL_REQUIRE_GPU();
  const auto made = shape(2, 2);
  const auto exchange = make(made);
  const auto batch = make_batch(made, tokens(0), Routing::uniform, Weights::random, seed_);
  const auto pass = [&](std::int64_t at, std::int64_t value) {
    auto in = to_tensors(batch, group_.rank);
    in.expert_ids.mutable_data_ptr<std::int64_t>()[at] = value;
    in.layer = 5;
    exchange->prepare(0, in);
    exchange->dispatch(0, 0);
    const auto rows = exchange->arrange(0, 0);
    exchange->reduce(0, 0, apply_experts(made, group_.rank, rows));
    exchange->combine(0, 0);
    exchange->finish(0);
    try {
      exchange->buffers().check_step();
      return std::string("accepted");
    } catch (const RunError& error) {
      return std::string(error.what());
    }
  };
  const auto first = to_tensors(batch, group_.rank).expert_ids.const_data_ptr<std::int64_t>()[6];
  const auto twice = pass(7, first);
  EXPECT_NE(twice.find("layer 5, expert " + std::to_string(first)), std::string::npos) << twice;
  EXPECT_NE(twice.find("token 3"), std::string::npos) << twice;
  EXPECT_NE(twice.find("chosen twice"), std::string::npos) << twice;
  const auto large = pass(4, made.num_experts);
  EXPECT_NE(large.find("token 2"), std::string::npos) << large;
  EXPECT_NE(large.find("there is no such expert"), std::string::npos) << large;
  EXPECT_NE(pass(0, -2).find("expert -2"), std::string::npos);
  EXPECT_EQ(pass(0, -1), "accepted");  // told once each, and none is no mistake
}

class FixedBlocks : public ::testing::TestWithParam<std::string> {
 protected:
  TestGroup group_;
  std::uint64_t seed_ = fresh_seed();
};

// All rows of all ranks go to the last rank; its block holds a quarter of them.
TEST_P(FixedBlocks, ThatAreTooSmallAreNamed) {
  DOVETAIL_REQUIRE_GPU();
  auto made = group_.shape(2, 2);
  ExchangeFacade exchange(make_on_gpu(group_, GetParam(), made, 0.25), made, 16);
  const auto run = [&](std::int64_t num_tokens, Routing routing) {
    const std::vector<std::int64_t> tokens(static_cast<std::size_t>(group_.size), num_tokens);
    const auto batch = make_batch(made, tokens, routing, Weights::random, seed_);
    auto in = to_tensors(batch, group_.rank);
    in.layer = 7;
    exchange.prepare(0, in);
    exchange.dispatch(0, 0);
    const auto rows = exchange.arrange(0, 0);
    exchange.reduce(0, 0, apply_experts(made, group_.rank, rows));
    exchange.combine(0, 0);
    return check_output(batch, group_.rank, exchange.finish(0));
  };
  EXPECT_EQ(join_problems(run(4, Routing::one_expert)), "");
  EXPECT_NO_THROW(exchange.buffers().check_step());
  static_cast<void>(run(16, Routing::one_expert));
  std::string message = "accepted";
  try {
    exchange.buffers().check_step();
  } catch (const RunError& error) {
    message = error.what();
  }
  const int last_rank = group_.size - 1;
  // one_expert: every token chooses the last expert first, then the one before.
  const std::string expected =
      "exchange " + GetParam() + ": rank " + std::to_string(group_.rank) + ", layer 7, expert " +
      std::to_string(made.num_experts - 1) + " (ubatch 0, token 4): 16 rows for ep rank " +
      std::to_string(last_rank) +
      " do not fit into a block of 4; allowed: a larger execution.padded_capacity";
  EXPECT_EQ(message, expected);
  EXPECT_NO_THROW(exchange.buffers().check_step());  // told once
  static_cast<void>(run(5, Routing::one_expert));
  EXPECT_THROW(exchange.buffers().check_step(), RunError) << "one row too many";
  EXPECT_EQ(join_problems(run(4, Routing::uniform)), "");
  EXPECT_NO_THROW(exchange.buffers().check_step());
}

INSTANTIATE_TEST_SUITE_P(BackEnds,
                         FixedBlocks,
                         ::testing::Values("padded", "symmetric", "copy_engine"));

}  // namespace
}  // namespace dovetail::test
