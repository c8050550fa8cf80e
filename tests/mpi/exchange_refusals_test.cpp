// What every exchange must refuse: plans, input and orders of calls that are not right.
#include <string>

#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "tests/mpi/exchange_conformance.hpp"

namespace dovetail::test {
namespace {

TEST_P(ExchangeConformance, IncompleteOrForeignPlansAreRefused) {
  const auto made = shape(2, 2);
  const auto exchange = make(made);
  const auto in = to_tensors(make_batch(made, tokens(0), Routing::uniform, Weights::random, seed_),
                             group_.rank);
  exchange->prepare(0, in);
  const auto plan = exchange->plans().plan(0);
  exchange->dispatch(0, 0);
  EXPECT_NO_THROW(exchange->plans().adopt(0, plan));
  EXPECT_THROW(exchange->plans().adopt(0, nullptr), ContractError);
  auto fewer = in;
  fewer.hidden = in.hidden.narrow(0, 1, 3);
  EXPECT_THROW(exchange->plans().prepare_again(0, fewer, plan), ContractError);
  const auto other = make(shape(2, 1));
  EXPECT_THROW(other->plans().adopt(0, plan), ContractError);
  auto other_sum = made;
  other_sum.sum_order =
      made.sum_order == SumOrder::by_rank ? SumOrder::by_choice : SumOrder::by_rank;
  EXPECT_THROW(make(other_sum)->plans().adopt(0, plan), ContractError);

  exchange->prepare(0, in);
  const auto undispatched = exchange->plans().plan(0);
  EXPECT_THROW(other->plans().adopt(0, undispatched), ContractError);
  exchange->dispatch(0, 0);  // leaves nothing in flight
}

TEST_P(ExchangeConformance, MalformedInputIsRefusedBeforeAnythingIsSent) {
  const auto made = shape(2, 2);
  const auto exchange = make(made);
  const auto batch = make_batch(made, tokens(0), Routing::uniform, Weights::random, seed_);
  const auto good = to_tensors(batch, group_.rank);
  const auto expect_refused = [&](const at::Tensor& hidden,
                                  const at::Tensor& ids,
                                  const at::Tensor& weights,
                                  const std::string& named) {
    try {
      exchange->prepare(0, {hidden, ids, weights});
      ADD_FAILURE() << "accepted: " << named;
    } catch (const ContractError& error) {
      EXPECT_NE(std::string(error.what()).find(named), std::string::npos) << error.what();
    }
  };
  const auto with_ids = [&](std::int64_t at, std::int64_t value) {
    auto ids = good.expert_ids.clone();
    ids.mutable_data_ptr<std::int64_t>()[at] = value;
    return ids;
  };
  const auto first = good.expert_ids.const_data_ptr<std::int64_t>()[6];
  expect_refused(good.hidden,
                 with_ids(7, first),
                 good.weights,
                 "token 3 chooses expert " + std::to_string(first) + " twice");
  expect_refused(
      good.hidden, with_ids(4, made.num_experts), good.weights, "token 2 chooses expert");
  expect_refused(good.hidden, with_ids(0, -2), good.weights, "token 0 chooses expert -2");
  expect_refused(good.hidden.to(at::kDouble), good.expert_ids, good.weights, "hidden");
  expect_refused(good.hidden.narrow(1, 0, 4), good.expert_ids, good.weights, "hidden");
  expect_refused(good.hidden.t(), good.expert_ids, good.weights, "hidden");
  expect_refused(at::Tensor(), good.expert_ids, good.weights, "hidden");
  expect_refused(good.hidden, good.expert_ids.to(at::kInt), good.weights, "expert_ids");
  expect_refused(good.hidden, good.expert_ids.narrow(0, 0, 3), good.weights, "expert_ids");
  expect_refused(good.hidden, good.expert_ids, good.weights.to(at::kDouble), "weights");
  expect_refused(good.hidden, good.expert_ids, good.weights.narrow(1, 0, 1), "weights");
  EXPECT_THROW(exchange->prepare(1, good), ContractError);

  // Nothing was sent, nothing is broken.
  exchange->prepare(0, good);
  exchange->dispatch(0, 0);
  const auto rows = exchange->arrange(0, 0);
  EXPECT_EQ(join_problems(check_expert_rows(batch, group_.rank, rows)), "");
  const auto out = apply_experts(made, group_.rank, rows);
  EXPECT_THROW(exchange->reduce(0, 0, at::ones({out.size(0) + 1, made.hidden}, out.options())),
               ContractError);
  EXPECT_THROW(exchange->reduce(0, 0, out.to(at::kDouble)), ContractError);
  exchange->reduce(0, 0, out);
  exchange->combine(0, 0);
  EXPECT_EQ(join_problems(check_output(batch, group_.rank, exchange->finish(0))), "");
}

TEST_P(ExchangeConformance, CallsOutOfOrderAreRefused) {
  const auto made = shape(2, 2);
  const auto exchange = make(made);
  EXPECT_THROW(exchange->dispatch(0, 0), ContractError);
  EXPECT_THROW(exchange->plans().plan(0), ContractError);
  const auto in = to_tensors(make_batch(made, tokens(0), Routing::uniform, Weights::random, seed_),
                             group_.rank);
  exchange->prepare(0, in);
  EXPECT_THROW(exchange->plans().plan(0)->tokens_per_expert(), ContractError);
  EXPECT_THROW(exchange->arrange(0, 0), ContractError);
  EXPECT_THROW(exchange->combine(0, 0), ContractError);
  if (group_.size > 1) {  // counts are on their way
    EXPECT_THROW(exchange->prepare(0, in), ContractError);
  }
  exchange->dispatch(0, 0);
  EXPECT_THROW(exchange->dispatch(0, 0), ContractError);
  EXPECT_THROW(exchange->reduce(0, 0, in.hidden), ContractError);
  EXPECT_THROW(exchange->finish(0), ContractError);
}

}  // namespace
}  // namespace dovetail::test
