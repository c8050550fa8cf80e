// Variants of a workload: batches of one shape with requests of their own, the same on every grid.
#include <map>
#include <random>
#include <set>
#include <utility>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/plan/kv_pages.hpp"
#include "framework/plan/planned_requests.hpp"
#include "framework/plan/split.hpp"
#include "framework/plan/synthetic_routing.hpp"
#include "framework/plan/workload.hpp"

namespace dovetail {
namespace {

constexpr std::int64_t kVocabulary = 1000;

WorkloadConfig config_of(int variants, int steps = 2) {
  WorkloadConfig config;
  config.phase = WorkPhase::mixed;
  config.requests = {
      LognormalRequests{.count = 4, .median = 6, .sigma = 1, .max_length = 30, .context_length = 5},
      RequestLengths{.lengths = {3, 1}, .context_lengths = {0, 9}}};
  config.seed = 11;
  config.steps = steps;
  config.variants = variants;
  return config;
}

std::vector<std::pair<std::int64_t, std::int64_t>> shape_of(const Batch& batch) {
  std::vector<std::pair<std::int64_t, std::int64_t>> lengths;
  for (const Request& request : batch.requests) {
    lengths.emplace_back(request.query_length, request.context_length);
  }
  return lengths;
}

std::int64_t num_requests(const WorkloadConfig& config, int world_size) {
  return std::ssize(plan_requests(config, nullptr, world_size));
}

TEST(Variants, HaveOneShapeAndRequestsOfTheirOwn) {
  constexpr int world_size = 3;
  const auto config = config_of(3);
  const auto of_a_variant = num_requests(config, world_size);
  for (int rank = 0; rank < world_size; ++rank) {
    const auto all = make_workload(config, nullptr, kVocabulary, world_size, Rank(rank));
    const auto one = make_workload(config_of(1), nullptr, kVocabulary, world_size, Rank(rank));
    ASSERT_EQ(all.num_variants, 3);
    ASSERT_EQ(all.steps_per_iteration(), 2U);
    ASSERT_EQ(all.steps.size(), 6U);
    EXPECT_EQ(all.kv_tokens.size(), 3 * one.kv_tokens.size());
    for (std::size_t place = 0; place < 6; ++place) {
      const auto& step = all.steps[place];
      const auto& plain = one.steps[place % 2];
      const auto variant = static_cast<std::int64_t>(place / 2);
      EXPECT_EQ(step.variant, variant);
      EXPECT_EQ(shape_of(step.batch), shape_of(plain.batch));
      EXPECT_EQ(step.positions, plain.positions);
      EXPECT_EQ(step.global_index, plain.global_index);
      EXPECT_EQ(step.input_ids == plain.input_ids, variant == 0);
      for (std::size_t i = 0; i < step.batch.requests.size(); ++i) {
        EXPECT_EQ(step.batch.requests[i].id, plain.batch.requests[i].id + variant * of_a_variant);
      }
      for (std::size_t token = 0; token < step.request_ids.size(); ++token) {
        EXPECT_EQ(step.request_ids[token], plain.request_ids[token] + variant * of_a_variant);
      }
    }
  }
}

/// Context steps have the requests of all variants, in the order in which the cache has its pages.
TEST(Variants, ContextsAreFilledForAllOfThem) {
  const auto config = config_of(4);
  const auto workload = make_workload(config, nullptr, kVocabulary, 2, Rank(1));
  std::vector<std::int64_t> ids;  // of all variants, in order of pages
  for (std::size_t place = 0; place < workload.steps.size(); place += 2) {
    for (const auto& request : workload.steps[place].batch.requests) {
      ids.push_back(request.id);
    }
  }
  ASSERT_EQ(ids.size(), workload.kv_tokens.size());
  std::map<std::int64_t, std::int64_t> filled;
  for (const auto& step : workload.context_steps) {
    ASSERT_LE(step.first_request + step.batch.requests.size(), ids.size());
    for (std::size_t i = 0; i < step.batch.requests.size(); ++i) {
      const auto& request = step.batch.requests[i];
      EXPECT_EQ(request.id, ids[step.first_request + i]);
      filled[request.id] += request.query_length;
    }
  }
  std::size_t checked = 0;
  for (std::size_t place = 0; place < workload.steps.size(); place += 2) {
    for (const auto& request : workload.steps[place].batch.requests) {
      EXPECT_EQ(filled.at(request.id), request.context_length);
      EXPECT_EQ(workload.kv_tokens[checked], request.context_length + 2 * request.query_length);
      ++checked;
    }
  }
  EXPECT_EQ(checked, workload.kv_tokens.size());
}

TEST(Variants, AreTheSameOnEveryGridAndAddToTheDigest) {
  WorkloadConfig config = config_of(2, 1);
  config.requests = {UniformRequests{.count = 6, .length = 4, .context_length = 2}};
  std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> one_rank;
  std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> three_ranks;
  std::uint64_t digests[2] = {0, 0};
  const auto add = [&](int world_size, auto& tokens, std::uint64_t& digest) {
    auto own = config;
    own.requests = {UniformRequests{.count = 6 / world_size, .length = 4, .context_length = 2}};
    for (int rank = 0; rank < world_size; ++rank) {
      const auto workload = make_workload(own, nullptr, kVocabulary, world_size, Rank(rank));
      digest += workload.digest;
      for (const auto& step : workload.steps) {
        for (std::size_t i = 0; i < step.input_ids.size(); ++i) {
          EXPECT_TRUE(
              tokens.insert({{step.request_ids[i], step.positions[i]}, step.input_ids[i]}).second);
        }
      }
    }
  };
  add(1, one_rank, digests[0]);
  add(3, three_ranks, digests[1]);
  EXPECT_EQ(one_rank.size(), 2U * 6 * 4);
  EXPECT_EQ(one_rank, three_ranks);
  EXPECT_EQ(digests[0], digests[1]);
  config.variants = 1;
  EXPECT_NE(make_workload(config, nullptr, kVocabulary, 1, Rank(0)).digest, digests[0]);
}

TEST(Variants, SplitsAreTheSame) {
  const auto workload = make_workload(config_of(2, 1), nullptr, kVocabulary, 1, Rank(0));
  for (const char* kind : {"token_midpoint", "request", "balanced"}) {
    const SplitRule rule = {.kind = kind, .key_cost = {0.1, 0.1}};
    const auto first = split_batch(workload.steps[0].batch, rule, 3);
    const auto second = split_batch(workload.steps[1].batch, rule, 3);
    for (std::size_t u = 0; u < 3; ++u) {
      EXPECT_EQ(first[u].token_start, second[u].token_start);
      EXPECT_EQ(first[u].num_tokens, second[u].num_tokens);
    }
  }
}

TEST(Variants, IdsOfATraceAreThoseOfTheFirst) {
  RequestTrace trace;
  trace.file = "trace.jsonl";
  trace.requests.resize(2);
  trace.requests[0].length = 3;
  trace.requests[0].input_ids = {5, 6, 7};
  trace.requests[1].length = 2;
  WorkloadConfig config;
  config.phase = WorkPhase::mixed;
  config.requests = {RequestFile{"trace.jsonl"}};
  config.variants = 3;
  const auto workload = make_workload(config, &trace, kVocabulary, 1, Rank(0));
  std::set<std::vector<std::int64_t>> seen;
  for (const auto& step : workload.steps) {
    EXPECT_EQ(step.input_ids.size(), 5U);
    EXPECT_TRUE(seen.insert(step.input_ids).second) << "other tokens in every variant";
  }
  EXPECT_EQ(
      std::vector(workload.steps[0].input_ids.begin(), workload.steps[0].input_ids.begin() + 3),
      (std::vector<std::int64_t>{5, 6, 7}));
}

TEST(Variants, MropePositionsAreOfTheirOwnRequests) {
  auto config = config_of(2, 1);
  config.positions = PositionKind::mrope;
  const auto all = make_workload(config, nullptr, kVocabulary, 1, Rank(0));
  const auto one = make_workload(config_of(1, 1), nullptr, kVocabulary, 1, Rank(0));
  for (const auto& step : all.steps) {
    EXPECT_EQ(step.mrope_positions.size(), 3 * one.steps[0].positions.size());
  }
}

TEST(Variants, SyntheticRoutingIsAnotherInEach) {
  const auto workload = make_workload(config_of(2, 1), nullptr, kVocabulary, 1, Rank(0));
  const auto ids = [&](const RoutingConfig& routing, std::size_t step) {
    return synthetic_expert_ids(routing, 3, 2, 0, 16, 4, workload.steps[step]);
  };
  for (const RoutingConfig& routing : {RoutingConfig{BalancedRouting{}}, {ZipfRouting{1.0}}}) {
    EXPECT_NE(ids(routing, 0), ids(routing, 1));
    EXPECT_EQ(ids(routing, 1), ids(routing, 1));
  }
  // Balanced in each.
  std::map<std::int64_t, int> counts;
  const auto second = ids(BalancedRouting{}, 1);
  for (std::size_t i = 0; i < second.size() / 2; ++i) {
    ++counts[second[i]];
  }
  const auto [least, most] =
      std::minmax_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) {
        return a.second < b.second;
      });
  EXPECT_LE(most->second - least->second, 1);
}

TEST(Variants, TooManyRequestsAreRefused) {
  auto config = config_of(1000, 1);
  config.requests = {UniformRequests{.count = kMaxRequests / 1000, .length = 1}};
  config.requests.push_back(UniformRequests{.count = 1, .length = 1});
  EXPECT_THROW(make_workload(config, nullptr, kVocabulary, 1, Rank(0)), InputError);
}

TEST(Variants, PagesOfAVariantAreThoseOfItsRequests) {
  const auto all = allocate_kv_pages(std::vector<std::int64_t>{5, 3, 5, 3}, 2, 0, 9);
  const auto second = all.of_requests(2, 2);
  EXPECT_EQ(second.num_pages, all.num_pages);
  EXPECT_EQ(second.pages, (std::vector<std::vector<std::int32_t>>{all.pages[2], all.pages[3]}));
  EXPECT_EQ(second.slot(1, 2), all.slot(3, 2));
  EXPECT_EQ(all.num_slots(), 2 * all.num_pages);
  EXPECT_THROW(all.of_requests(3, 2), ContractError);
}

}  // namespace
}  // namespace dovetail
