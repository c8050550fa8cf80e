// The steps that fill contexts, against plain loops.
#include <algorithm>
#include <random>
#include <utility>

#include <gtest/gtest.h>

#include "framework/plan/workload.hpp"
#include "tests/support/sanitized.hpp"
#include "tests/unit/plan/workload_world.hpp"

namespace dovetail {
namespace {

TEST(Workload, LongContextsAreCutAndEquallyManyOnAllRanks) {
  WorkloadConfig config;
  config.phase = WorkPhase::decode;
  config.requests = {RequestLengths{{1, 1, 1}, {kMaxContextStepTokens, 1, 100}}};
  config.rank_scale = {1.0, 0.34, 0.0};  // rank 1 has one request of the list's first entry
  const World world = all_ranks(config, 3);
  EXPECT_EQ(std::ssize(world.tokens), 2 * kMaxContextStepTokens + 101 + 4);
  const auto first = make_workload(config, nullptr, kVocabulary, 3, Rank(0));
  ASSERT_EQ(first.context_steps.size(), 2U);
  EXPECT_EQ(first.context_steps[0].batch.num_tokens(), kMaxContextStepTokens);
  EXPECT_EQ(first.context_steps[1].batch.num_tokens(), 101);
  EXPECT_EQ(first.context_steps[0].batch.requests.size(), 1U);
  EXPECT_EQ(first.context_steps[0].first_request, 0U);
  EXPECT_EQ(first.context_steps[1].batch.requests.size(), 2U) << "the first is done";
  EXPECT_EQ(first.context_steps[1].first_request, 1U);
  const auto second = make_workload(config, nullptr, kVocabulary, 3, Rank(1));
  ASSERT_EQ(second.context_steps.size(), 2U);
  EXPECT_EQ(second.context_steps[0].batch.num_tokens(), kMaxContextStepTokens);
  EXPECT_EQ(second.context_steps[1].batch.num_tokens(), 0);
  const auto idle = make_workload(config, nullptr, kVocabulary, 3, Rank(2));
  ASSERT_EQ(idle.context_steps.size(), 2U);
  EXPECT_TRUE(idle.context_steps[0].batch.requests.empty());
  EXPECT_TRUE(idle.steps.front().input_ids.empty());
  EXPECT_EQ(idle.digest, 0U);

  // Several requests in a step, the last one cut.
  config.requests = {RequestLengths{{1, 1, 1}, {kMaxContextStepTokens - 2, 1, 100}}};
  const auto filled = make_workload(config, nullptr, kVocabulary, 3, Rank(0));
  ASSERT_EQ(filled.context_steps.size(), 2U);
  EXPECT_EQ(filled.context_steps[0].batch.num_tokens(), kMaxContextStepTokens);
  EXPECT_EQ(filled.context_steps[0].batch.requests[2].query_length, 1);
  EXPECT_EQ(filled.context_steps[1].first_request, 2U);
  EXPECT_EQ(filled.context_steps[1].batch.requests[0].query_length, 99);
  EXPECT_EQ(filled.context_steps[1].batch.requests[0].context_length, 1);

  // One request that is cut in the middle, once and again.
  auto cut = uniform(1, 1, 2 * kMaxContextStepTokens + 5);
  EXPECT_EQ(make_workload(cut, nullptr, kVocabulary, 1, Rank(0)).context_steps.size(), 3U);
  EXPECT_EQ(std::ssize(all_ranks(cut, 1).tokens), 2 * kMaxContextStepTokens + 6);
  cut.context = ContextFill::random;
  EXPECT_TRUE(make_workload(cut, nullptr, kVocabulary, 1, Rank(0)).context_steps.empty());
  EXPECT_EQ(all_ranks(cut, 1).tokens.size(), 1U);
  EXPECT_TRUE(make_workload(uniform(1, 9), nullptr, kVocabulary, 1, Rank(0)).context_steps.empty());
}

/// All tokens of a rank's contexts, one request after the other, are cut into equal pieces.
TEST(Workload, ContextStepsAgainstPlainLoops) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 50; ++round) {
    RequestLengths group;
    for (auto left = 1 + random() % 12; left > 0; --left) {
      const std::uint64_t longest = random() % 3 == 0 ? 3 * kMaxContextStepTokens : 2000;
      group.lengths.push_back(1);
      group.context_lengths.push_back(
          random() % 3 == 0 ? 0 : static_cast<std::int64_t>(random() % longest));
    }
    if (round % 5 == 0) {  // cuts between requests
      group.context_lengths.assign(group.lengths.size(), kMaxContextStepTokens / 2);
    }
    WorkloadConfig config;
    config.phase = WorkPhase::decode;
    config.requests = {group};
    const auto workload = make_workload(config, nullptr, kVocabulary, 1, Rank(0));
    std::vector<std::pair<std::int64_t, std::int64_t>> tokens;  // request, position
    for (std::size_t id = 0; id < group.lengths.size(); ++id) {
      for (std::int64_t position = 0; position < group.context_lengths[id]; ++position) {
        tokens.emplace_back(static_cast<std::int64_t>(id), position);
      }
    }
    constexpr auto step_tokens = static_cast<std::size_t>(kMaxContextStepTokens);
    ASSERT_EQ(workload.context_steps.size(), (tokens.size() + step_tokens - 1) / step_tokens);
    std::size_t at = 0;
    for (const StepWorkload& step : workload.context_steps) {
      ASSERT_EQ(step.request_ids.size(), std::min(step_tokens, tokens.size() - at));
      const auto& requests = step.batch.requests;
      ASSERT_FALSE(requests.empty());
      EXPECT_GT(requests.front().query_length, 0);
      EXPECT_GT(requests.back().query_length, 0);
      std::int64_t counted = 0;
      for (std::size_t i = 0; i < requests.size(); ++i) {
        EXPECT_EQ(requests[i].id, static_cast<std::int64_t>(step.first_request + i));
        counted += requests[i].query_length;
      }
      EXPECT_EQ(counted, std::ssize(step.request_ids));
      for (std::size_t i = 0; i < step.request_ids.size(); ++i, ++at) {
        EXPECT_EQ(std::pair(step.request_ids[i], step.positions[i]), tokens[at]);
        EXPECT_EQ(step.global_index[i], static_cast<std::int64_t>(at));
      }
    }
    EXPECT_EQ(at, tokens.size());
  }
}

/// Where each context step has all requests, this takes a terabyte.
TEST(Workload, AMillionRequestsWithContexts) {
  constexpr std::int64_t num_requests = testing::kSanitized ? 100'000 : 1'000'000;
  auto config = uniform(num_requests, 1, 16);
  const auto workload = make_workload(config, nullptr, kVocabulary, 1, Rank(0));
  std::size_t listed = 0;
  for (const StepWorkload& step : workload.context_steps) {
    listed += step.batch.requests.size();
  }
  EXPECT_EQ(workload.context_steps.size(), (num_requests + 511) / 512);
  EXPECT_EQ(listed, num_requests);
}

}  // namespace
}  // namespace dovetail
