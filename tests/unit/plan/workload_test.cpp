#include "framework/plan/workload.hpp"

#include <map>
#include <utility>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

WorkloadConfig uniform(std::int64_t count, std::int64_t length) {
  WorkloadConfig config;
  config.requests = {UniformRequests{.count = count, .length = length}};
  config.seed = 7;
  return config;
}

using Tokens = std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t>;

/// (request, position) -> token id, over all ranks of a world; and the sum of digests.
std::pair<Tokens, std::uint64_t> all_tokens(const WorkloadConfig& config, int world_size) {
  Tokens tokens;
  std::uint64_t digest = 0;
  for (int rank = 0; rank < world_size; ++rank) {
    const auto workload = make_workload(config, 1000, world_size, Rank(rank));
    digest += workload.digest;
    for (std::size_t i = 0; i < workload.input_ids.size(); ++i) {
      const auto [place, is_new] =
          tokens.insert({{workload.request_ids[i], workload.positions[i]}, workload.input_ids[i]});
      EXPECT_TRUE(is_new) << "request " << place->first.first << " is on two ranks";
    }
  }
  return {tokens, digest};
}

TEST(Workload, RequestsAreTheSameOnEveryGrid) {
  const auto whole = all_tokens(uniform(8, 13), 1);
  EXPECT_EQ(whole.first.size(), 8U * 13U);
  EXPECT_EQ(all_tokens(uniform(4, 13), 2), whole);
  EXPECT_EQ(all_tokens(uniform(2, 13), 4), whole);
}

TEST(Workload, SeedLengthAndVocabularyDecideTheTokens) {
  const auto config = uniform(3, 50);
  auto other = config;
  other.seed = 8;
  EXPECT_NE(all_tokens(other, 1).first, all_tokens(config, 1).first);
  EXPECT_NE(all_tokens(other, 1).second, all_tokens(config, 1).second);
  for (const auto& [place, token] : all_tokens(config, 1).first) {
    EXPECT_GE(token, 0);
    EXPECT_LT(token, 1000);
  }
}

TEST(Workload, DigestSeesOneTokenAndItsPlace) {
  // Equal lengths and seeds, but one request more: the digest is a sum over all tokens.
  EXPECT_NE(all_tokens(uniform(3, 5), 1).second, all_tokens(uniform(4, 5), 1).second);
  EXPECT_NE(all_tokens(uniform(5, 3), 1).second, all_tokens(uniform(3, 5), 1).second);
}

TEST(Workload, LengthsFollowTheGlobalRequestId) {
  WorkloadConfig config;
  config.requests = {RequestLengths{{5, 1, 9}, {}}};
  const auto second = make_workload(config, 100, 2, Rank(1));
  ASSERT_EQ(second.batch.requests.size(), 3U);
  EXPECT_EQ(second.batch.requests[0].id, 3);
  EXPECT_EQ(second.batch.requests[2].query_length, 9);
  EXPECT_EQ(second.batch.num_tokens(), 15);
}

TEST(Workload, ScaleGivesUnevenAndIdleRanks) {
  auto config = uniform(4, 10);
  config.rank_scale = {1.0, 0.5, 0.0, 0.3};
  EXPECT_EQ(requests_per_rank(config, 4), (std::vector<std::int64_t>{4, 2, 0, 1}));
  const auto idle = make_workload(config, 100, 4, Rank(2));
  EXPECT_TRUE(idle.batch.requests.empty());
  EXPECT_TRUE(idle.input_ids.empty());
  EXPECT_EQ(make_workload(config, 100, 4, Rank(3)).batch.requests[0].id, 6);
}

TEST(Workload, RequestsThatAreNotBuiltAreRefused) {
  WorkloadConfig config;
  config.requests = {LognormalRequests{}};
  EXPECT_THROW(make_workload(config, 100, 1, Rank(0)), InputError);
}

}  // namespace
}  // namespace dovetail
