// What all ranks of a world compute, for the tests of workloads.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "framework/plan/planned_requests.hpp"
#include "framework/plan/workload.hpp"

namespace dovetail {

inline constexpr std::int64_t kVocabulary = 1000;

inline WorkloadConfig uniform(std::int64_t count,
                              std::int64_t length,
                              std::int64_t context_length = 0) {
  WorkloadConfig config;
  config.requests = {
      UniformRequests{.count = count, .length = length, .context_length = context_length}};
  config.seed = 7;
  return config;
}

/// Everything that is said of a token: step (context steps -1), id, global index, M-RoPE.
using TokenFacts = std::tuple<int, std::int64_t, std::int64_t, std::vector<std::int64_t>>;

/// What all ranks of a world compute, by (request, position).
struct World {
  std::map<std::pair<std::int64_t, std::int64_t>, TokenFacts> tokens;
  std::map<std::int64_t, std::int64_t> kv_tokens;
  std::uint64_t digest = 0;

  friend bool operator==(const World&, const World&) = default;
};

inline void add_step(const StepWorkload& step, int index, World& world) {
  std::size_t token = 0;
  const std::size_t tokens = step.input_ids.size();
  ASSERT_EQ(step.positions.size(), tokens);
  ASSERT_EQ(step.request_ids.size(), tokens);
  ASSERT_EQ(step.global_index.size(), tokens);
  for (const Request& request : step.batch.requests) {
    for (std::int64_t i = 0; i < request.query_length; ++i, ++token) {
      ASSERT_LT(token, tokens);
      EXPECT_EQ(step.request_ids[token], request.id);
      EXPECT_EQ(step.positions[token], request.context_length + i);
      std::vector<std::int64_t> mrope;
      for (std::size_t at = token; at < step.mrope_positions.size(); at += tokens) {
        mrope.push_back(step.mrope_positions[at]);
      }
      const bool is_new =
          world.tokens
              .insert({{request.id, step.positions[token]},
                       {index, step.input_ids[token], step.global_index[token], mrope}})
              .second;
      EXPECT_TRUE(is_new) << "request " << request.id << " position " << step.positions[token]
                          << " is there twice";
    }
  }
  EXPECT_EQ(token, tokens);
}

inline void expect_equal(const std::vector<StepWorkload>& one,
                         const std::vector<StepWorkload>& other) {
  ASSERT_EQ(one.size(), other.size());
  for (std::size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(one[i].input_ids, other[i].input_ids);
    EXPECT_EQ(one[i].positions, other[i].positions);
    EXPECT_EQ(one[i].mrope_positions, other[i].mrope_positions);
    EXPECT_EQ(one[i].request_ids, other[i].request_ids);
    EXPECT_EQ(one[i].global_index, other[i].global_index);
    EXPECT_EQ(one[i].first_request, other[i].first_request);
  }
}

inline World all_ranks(const WorkloadConfig& config,
                       int world_size,
                       const RequestTrace* trace = nullptr,
                       std::int64_t vocabulary = kVocabulary) {
  World world;
  std::set<std::size_t> num_context_steps;
  const auto counts = requests_per_rank(config, trace, world_size);
  const auto together = make_workloads(config, trace, vocabulary, world_size);
  for (int rank = 0; rank < world_size; ++rank) {
    const auto workload = make_workload(config, trace, vocabulary, world_size, Rank(rank));
    const auto& same = together.at(static_cast<std::size_t>(rank));
    EXPECT_EQ(workload.digest, same.digest);
    EXPECT_EQ(workload.kv_tokens, same.kv_tokens);
    expect_equal(workload.steps, same.steps);
    expect_equal(workload.context_steps, same.context_steps);
    EXPECT_EQ(workload.steps.size(), static_cast<std::size_t>(config.steps));
    num_context_steps.insert(workload.context_steps.size());
    world.digest += workload.digest;
    for (const StepWorkload& step : workload.context_steps) {
      EXPECT_LE(step.batch.num_tokens(), kMaxContextStepTokens);
      add_step(step, -1, world);
    }
    for (std::size_t step = 0; step < workload.steps.size(); ++step) {
      add_step(workload.steps[step], static_cast<int>(step), world);
    }
    const auto& requests = workload.steps.front().batch.requests;
    EXPECT_EQ(std::ssize(requests), counts[static_cast<std::size_t>(rank)]);
    EXPECT_EQ(requests.size(), workload.kv_tokens.size());
    for (std::size_t i = 0; i < requests.size(); ++i) {
      world.kv_tokens[requests[i].id] = workload.kv_tokens[i];
    }
  }
  EXPECT_EQ(num_context_steps.size(), 1U) << "equally many context steps on all ranks";
  return world;
}

}  // namespace dovetail
