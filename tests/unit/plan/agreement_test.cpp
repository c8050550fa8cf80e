// The agreement: the reduction against plain statistics over ranks, and the decision table.
#include "framework/plan/agreement.hpp"

#include <algorithm>
#include <limits>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/plan/split.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();

struct TestRank {
  Batch batch;
  VetoReason veto = VetoReason::none;
  RankStatus status = RankStatus::well;
  std::uint64_t digest = 0xfedcba9876543210ULL;
  std::uint64_t graph_cache_digest = 0xfedcba9876543210ULL;
};

AgreementMessage message_of(const TestRank& rank, int number) {
  const auto slices = split_batch(rank.batch, {}, 2);
  return make_message({Rank(number),
                       rank.batch,
                       slices,
                       rank.digest,
                       rank.veto,
                       rank.status,
                       rank.graph_cache_digest});
}

AgreementMessage reduce_all(const std::vector<TestRank>& ranks) {
  AgreementMessage reduced = message_of(ranks[0], 0);
  for (std::size_t r = 1; r < ranks.size(); ++r) {
    reduced = reduce(reduced, message_of(ranks[r], static_cast<int>(r)));
  }
  return reduced;
}

TestRank rank_with(std::vector<std::int64_t> lengths) {
  TestRank rank;
  for (const auto length : lengths) {
    rank.batch.requests.push_back({0, length, 0});
  }
  return rank;
}

constexpr AgreementRule kRule{2, WorkPhase::prefill, 512, 32};

TEST(Agreement, ReducesWithEachFieldsOwnOperator) {
  const auto reduced =
      reduce_all({rank_with({10, 20}), rank_with({}), rank_with({7}), rank_with({0})});
  EXPECT_EQ(reduced.min_tokens, 7) << "ranks without tokens do not count";
  EXPECT_EQ(reduced.max_tokens, 30);
  EXPECT_EQ(reduced.sum_tokens, 37);
  EXPECT_EQ(reduced.max_requests, 2);
  EXPECT_EQ(reduced.max_ubatch_tokens[0], 15);
  EXPECT_EQ(reduced.max_ubatch_tokens[1], 15);
  EXPECT_EQ(reduced.min_query_length, 7);
  EXPECT_EQ(reduced.max_query_length, 20);
  EXPECT_EQ(reduced.sum_requests, 3) << "requests without tokens do not count";
  EXPECT_EQ(reduced.sum_context_tokens, 0);
  EXPECT_EQ(reduced.vetoes, 0);
  EXPECT_EQ(reduced.veto_rank, kLargest);
}

AgreementMessage random_message(std::mt19937_64& random) {
  const auto small = [&random] { return static_cast<std::int64_t>(random() % 5) - 2; };
  AgreementMessage m;
  m.version = small();
  m.version_max = small();
  m.min_tokens = small();
  m.max_tokens = small();
  m.sum_tokens = small();
  m.max_requests = small();
  m.max_segments = small();
  m.max_keys = small();
  m.max_context = small();
  m.max_key_length = small();
  for (auto* each :
       {&m.max_ubatch_tokens, &m.max_ubatch_segments, &m.max_ubatch_keys, &m.max_ubatch_context}) {
    for (auto& value : *each) {
      value = small();
    }
  }
  m.vetoes = small();
  m.veto_rank = small();
  m.veto_reason = small();
  m.min_query_length = small();
  m.max_query_length = small();
  m.graph_cache_digest_min = small();
  m.graph_cache_digest_max = small();
  m.schedule_digest_min = small();
  m.schedule_digest_max = small();
  m.status = small();
  m.sum_requests = small();
  m.sum_context_tokens = small();
  return m;
}

TEST(Agreement, ReductionIsAssociativeAndCommutative) {
  std::mt19937_64 random(testing::fresh_seed());
  for (int i = 0; i < 2000; ++i) {
    const auto a = random_message(random);
    const auto b = random_message(random);
    const auto c = random_message(random);
    EXPECT_EQ(reduce(a, b), reduce(b, a));
    EXPECT_EQ(reduce(reduce(a, b), c), reduce(a, reduce(b, c)));
  }
}

TEST(Agreement, ThresholdIsOnTheMinimumOverRanksWithWork) {
  EXPECT_TRUE(decide(reduce_all({rank_with({600}), rank_with({512})}), kRule).ubatched);
  const auto below = decide(reduce_all({rank_with({600}), rank_with({511})}), kRule);
  EXPECT_FALSE(below.ubatched);
  EXPECT_EQ(below.reason, VetoReason::below_threshold);
  EXPECT_EQ(below.bounds.tokens[0], 600);
  EXPECT_TRUE(decide(reduce_all({rank_with({600}), rank_with({})}), kRule).ubatched)
      << "an idle rank does not veto";
}

TEST(Agreement, DecodeThresholdNeedsUniformLengthsOfOneEverywhere) {
  AgreementRule rule = kRule;
  rule.phase = WorkPhase::decode;
  const auto decode = rank_with(std::vector<std::int64_t>(32, 1));
  EXPECT_TRUE(decide(reduce_all({decode, decode, rank_with({})}), rule).ubatched);
  EXPECT_FALSE(
      decide(reduce_all({decode, rank_with(std::vector<std::int64_t>(31, 1))}), rule).ubatched);
  EXPECT_FALSE(decide(reduce_all({decode, rank_with({2, 30})}), rule).ubatched);
  EXPECT_FALSE(decide(reduce_all({decode}), kRule).ubatched) << "prefill keeps its own threshold";
  rule.phase = WorkPhase::mixed;
  EXPECT_TRUE(decide(reduce_all({decode}), rule).ubatched);
}

TEST(Agreement, OneVetoIsEnoughAndTheLowestRankIsNamed) {
  std::vector<TestRank> ranks(4, rank_with({1000}));
  ranks[3].veto = VetoReason::rank_veto;
  auto decision = decide(reduce_all(ranks), kRule);
  EXPECT_FALSE(decision.ubatched);
  EXPECT_EQ(decision.reason, VetoReason::rank_veto);
  EXPECT_EQ(decision.veto_rank, 3);
  ranks[1].veto = VetoReason::below_threshold;
  decision = decide(reduce_all(ranks), kRule);
  EXPECT_EQ(decision.reason, VetoReason::below_threshold);
  EXPECT_EQ(decision.veto_rank, 1);
}

TEST(Agreement, NoWorkAnywhereIsNotUbatched) {
  const auto decision = decide(reduce_all({rank_with({}), rank_with({0})}), kRule);
  EXPECT_FALSE(decision.ubatched);
  EXPECT_EQ(decision.reason, VetoReason::no_work);
  EXPECT_EQ(decision.bounds.tokens[0], 0);
}

TEST(Agreement, OneUbatchNeedsNoReason) {
  AgreementRule rule = kRule;
  rule.num_ubatches = 1;
  const auto decision = decide(reduce_all({rank_with({1})}), rule);
  EXPECT_FALSE(decision.ubatched);
  EXPECT_EQ(decision.reason, VetoReason::none);
}

TEST(Agreement, StopsGracefullyAndThrowsOnFailure) {
  std::vector<TestRank> ranks(3, rank_with({1000}));
  EXPECT_FALSE(decide(reduce_all(ranks), kRule).stop);
  ranks[2].status = RankStatus::stop_requested;
  EXPECT_TRUE(decide(reduce_all(ranks), kRule).stop);
}

TEST(Agreement, ThrowsWhereSchedulesOrVersionsDiffer) {
  std::vector<TestRank> ranks(3, rank_with({1000}));
  EXPECT_NO_THROW(decide(reduce_all(ranks), kRule));
  ranks[1].digest += 1;
  EXPECT_THROW(decide(reduce_all(ranks), kRule), RunError);
  AgreementMessage other = message_of(ranks[0], 0);
  EXPECT_EQ(other.version, 3);
  other.version = other.version_max = 2;
  EXPECT_THROW(decide(reduce(message_of(ranks[0], 0), other), kRule), RunError);
}

TEST(Agreement, DifferentGraphsAreSeenAndAreNoError) {
  std::vector<TestRank> ranks(3, rank_with({1000}));
  EXPECT_FALSE(decide(reduce_all(ranks), kRule).graphs_differ);
  ranks[2].graph_cache_digest += 1;
  EXPECT_TRUE(decide(reduce_all(ranks), kRule).graphs_differ);
  ranks[2].graph_cache_digest = 0;  // the sign of the digest as int64 differs, too
  const auto decision = decide(reduce_all(ranks), kRule);
  EXPECT_TRUE(decision.graphs_differ);
  EXPECT_TRUE(decision.ubatched) << "the step itself is decided as ever";
}

TEST(Agreement, ReasonsHaveNames) {
  EXPECT_EQ(to_string(VetoReason::none), "none");
  EXPECT_EQ(to_string(VetoReason::below_threshold), "below_threshold");
  EXPECT_EQ(to_string(VetoReason::rank_veto), "rank_veto");
  EXPECT_EQ(to_string(VetoReason::no_work), "no_work");
  EXPECT_EQ(to_string(VetoReason::table_prefers_plain), "table_prefers_plain");
  EXPECT_EQ(to_string(VetoReason::table_has_no_point), "table_has_no_point");
}

}  // namespace
}  // namespace dovetail
