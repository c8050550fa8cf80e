// Rows that were received are no numbers once they have been used: a right pass does not notice,
// and one that reads what an earlier exchange has left gets NaN.
#include "framework/comm/exchange/received_poison.hpp"

#include <ATen/ops/isnan.h>
#include <gtest/gtest.h>

#include "tests/mpi/exchange_driver.hpp"

namespace dovetail::test {
namespace {

constexpr const char* kKinds[] = {"gather", "ragged", kRaggedOverLink};

std::vector<std::int64_t> equal_tokens(const TestGroup& group, std::int64_t tokens) {
  return std::vector<std::int64_t>(static_cast<std::size_t>(group.size), tokens);
}

bool has_nan(const at::Tensor& rows) {
  return at::isnan(rows).any().item<bool>();
}

/// Of every rank's tokens every expert, so that each rank receives rows of each other one.
GroupBatch dense_batch(const TestGroup& group, std::int64_t tokens, std::uint64_t seed) {
  const auto shape = group.shape(2, 2 * group.size);
  return make_batch(shape, equal_tokens(group, tokens), Routing::uniform, Weights::random, seed);
}

TEST(ReceivedPoison, ARightPassDoesNotNotice) {
  const TestGroup group;
  const auto seed = fresh_seed();
  for (const char* kind : kKinds) {
    const auto batch = dense_batch(group, 9, seed);
    const auto exchange = group.make(kind, batch.shape);
    const auto before = run_pass(*exchange, 0, batch, group.rank);
    for (int pass = 0; pass < 2; ++pass) {
      poison_all_received(*exchange, 1);
      const auto after = run_pass(*exchange, 0, batch, group.rank);
      EXPECT_TRUE(after.rows.equal(before.rows)) << kind;
      EXPECT_TRUE(after.output.equal(before.output)) << kind;
    }
  }
}

/// A dispatch that is left out shows old rows, which are NaN where they are poisoned; so do a
/// combine's.
TEST(ReceivedPoison, AStaleBufferIsSeen) {
  const TestGroup group;
  const bool has_peers = group.size > 1;
  const auto seed = fresh_seed();
  for (const char* kind : kKinds) {
    const auto batch = dense_batch(group, 9, seed);
    const auto exchange = group.make(kind, batch.shape);
    run_pass(*exchange, 0, batch, group.rank);
    const auto plan = exchange->plans().plan(0);
    const auto in = to_tensors(batch, group.rank);
    const auto without = [&](Phase phase, bool poisons) {
      if (poisons) {
        poison_received(*exchange, 0, phase);
      }
      exchange->plans().prepare_again(0, in, plan);
      if (phase != Phase::dispatch) {
        exchange->dispatch(0, 0);
      }
      const auto rows = exchange->arrange(0, 0);
      const auto arranged = rows.rows.clone();
      exchange->reduce(0, 0, apply_experts(batch.shape, group.rank, rows));
      if (phase != Phase::combine) {
        exchange->combine(0, 0);
      }
      const auto output = exchange->finish(0).clone();
      run_pass(*exchange, 0, batch, group.rank);
      return phase == Phase::dispatch ? arranged : output;
    };
    for (const Phase phase : {Phase::dispatch, Phase::combine}) {
      EXPECT_FALSE(has_nan(without(phase, false))) << kind << ": the twin: old rows are numbers";
      EXPECT_EQ(has_nan(without(phase, true)), has_peers) << kind;
    }
  }
}

}  // namespace
}  // namespace dovetail::test
