// The same requests on every grid; tokens, contexts and steps against plain loops; a digest that
// sees every input.
#include "framework/plan/workload.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <random>
#include <set>
#include <tuple>
#include <utility>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/plan/mrope_positions.hpp"
#include "framework/plan/planned_requests.hpp"
#include "tests/support/input_error.hpp"

namespace dovetail {
namespace {

constexpr std::int64_t kVocabulary = 1000;

WorkloadConfig uniform(std::int64_t count, std::int64_t length, std::int64_t context_length = 0) {
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

void add_step(const StepWorkload& step, int index, World& world) {
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

void expect_equal(const std::vector<StepWorkload>& one, const std::vector<StepWorkload>& other) {
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

World all_ranks(const WorkloadConfig& config,
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

/// Any configuration whose groups have `8 / world_size` requests a rank; lists have one entry.
WorkloadConfig random_config(std::mt19937_64& random, int world_size) {
  const auto below = [&random](std::int64_t end) {
    return std::uniform_int_distribution<std::int64_t>(0, end - 1)(random);
  };
  WorkloadConfig config;
  config.phase = below(2) == 0 ? WorkPhase::decode : WorkPhase::mixed;
  config.seed = random();
  config.steps = static_cast<int>(1 + below(3));
  config.positions = below(2) == 0 ? PositionKind::text : PositionKind::mrope;
  config.context = below(2) == 0 ? ContextFill::prefill : ContextFill::random;
  const auto count = 8 / world_size;
  const auto length = [&] { return config.phase == WorkPhase::decode ? 1 : 1 + below(40); };
  for (auto groups = 1 + below(3); groups > 0; --groups) {
    if (below(2) == 0) {
      config.requests.emplace_back(UniformRequests{count, length(), below(60)});
    } else {
      config.requests.emplace_back(LognormalRequests{
          count, 20.0, 1.0, 90, config.phase == WorkPhase::decode ? 0 : below(50)});
    }
  }
  return config;
}

TEST(Workload, AllIsTheSameOnEveryGrid) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  for (unsigned i = 0; i < 40; ++i) {
    std::map<int, World> worlds;
    for (const int world_size : {1, 2, 4, 8}) {
      std::mt19937_64 random(seed + i);
      worlds[world_size] = all_ranks(random_config(random, world_size), world_size);
    }
    for (const auto& [world_size, world] : worlds) {
      EXPECT_EQ(world, worlds[1]) << world_size;
    }
  }
}

/// Token by token, from the definition alone.
TEST(Workload, StepsAndContextsAgainstPlainLoops) {
  WorkloadConfig config;
  config.phase = WorkPhase::mixed;
  config.steps = 3;
  config.requests = {UniformRequests{2, 1, 5}, RequestLengths{{4, 6, 2}, {0, 3, 8}}};
  config.rank_scale = {1.0, 0.5};
  // Ids: group 0 is 0, 1 on rank 0 and 2 on rank 1; group 1 is 3, 4, 5 on rank 0 and 6, 7 on
  // rank 1.
  const std::vector<std::pair<std::int64_t, std::int64_t>> requests = {
      {1, 5}, {1, 5}, {1, 5}, {4, 0}, {6, 3}, {2, 8}, {4, 0}, {6, 3}};
  EXPECT_EQ(requests_per_rank(config, nullptr, 2), (std::vector<std::int64_t>{5, 3}));
  const World world = all_ranks(config, 2);
  std::size_t num_tokens = 0;
  std::int64_t before = 0;
  std::int64_t contexts_before = 0;
  for (std::size_t id = 0; id < requests.size(); ++id) {
    const auto [length, context] = requests[id];
    const auto key = static_cast<std::int64_t>(id);
    EXPECT_EQ(world.kv_tokens.at(key), context + 3 * length);
    for (std::int64_t position = 0; position < context + 3 * length; ++position, ++num_tokens) {
      const auto& [step, token, global_index, mrope] = world.tokens.at({key, position});
      if (position < context) {
        EXPECT_EQ(step, -1);
        EXPECT_EQ(global_index, contexts_before + position);
      } else {
        EXPECT_EQ(step, (position - context) / length);
        EXPECT_EQ(global_index, before + (position - context) % length);
      }
      EXPECT_GE(token, 0);
      EXPECT_LT(token, kVocabulary);
      EXPECT_TRUE(mrope.empty());
    }
    before += length;
    contexts_before += context;
  }
  EXPECT_EQ(world.tokens.size(), num_tokens);
  const auto second = make_workload(config, nullptr, kVocabulary, 2, Rank(1));
  EXPECT_EQ(second.steps[1].batch.requests[2].id, 7);
  EXPECT_EQ(second.steps[1].batch.requests[2].context_length, 9);
  EXPECT_EQ(second.steps[1].batch.requests[2].query_length, 6);
}

/// A prefill in one piece and one whose first part is context compute the same tokens.
TEST(Workload, ChunkedEqualsWhole) {
  for (const auto positions : {PositionKind::text, PositionKind::mrope}) {
    auto whole = uniform(3, 48);
    auto chunked = uniform(3, 8, 32);
    chunked.steps = 2;
    whole.positions = chunked.positions = positions;
    const World one = all_ranks(whole, 1);
    const World other = all_ranks(chunked, 1);
    ASSERT_EQ(one.tokens.size(), other.tokens.size());
    for (const auto& [key, facts] : one.tokens) {
      EXPECT_EQ(std::get<1>(other.tokens.at(key)), std::get<1>(facts));
      EXPECT_EQ(std::get<3>(other.tokens.at(key)), std::get<3>(facts));
    }
    EXPECT_EQ(one.kv_tokens, other.kv_tokens);
    EXPECT_NE(one.digest, other.digest);
  }
}

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
  auto config = uniform(1'000'000, 1, 16);
  const auto workload = make_workload(config, nullptr, kVocabulary, 1, Rank(0));
  std::size_t listed = 0;
  for (const StepWorkload& step : workload.context_steps) {
    listed += step.batch.requests.size();
  }
  EXPECT_EQ(workload.context_steps.size(), 1'954U);
  EXPECT_EQ(listed, 1'000'000U);
}

TEST(Workload, ScaleGivesUnevenAndIdleRanks) {
  auto config = uniform(4, 10);
  config.rank_scale = {1.0, 0.5, 0.0, 0.3};
  EXPECT_EQ(requests_per_rank(config, nullptr, 4), (std::vector<std::int64_t>{4, 2, 0, 1}));
  EXPECT_EQ(make_workload(config, nullptr, 100, 4, Rank(3)).steps[0].batch.requests[0].id, 6);
  config.requests.emplace_back(UniformRequests{.count = 10, .length = 2});
  EXPECT_EQ(requests_per_rank(config, nullptr, 4), (std::vector<std::int64_t>{14, 7, 0, 4}));
  EXPECT_EQ(make_workload(config, nullptr, 100, 4, Rank(3)).steps[0].batch.requests[1].id, 7 + 15);
  config.rank_scale = {0.01, 0.0, 0.0, 0.0};
  EXPECT_THROW(requests_per_rank(config, nullptr, 4), InputError);
  config.rank_scale = {1.0};
  EXPECT_THROW(requests_per_rank(config, nullptr, 4), InputError);
}

TEST(Workload, LognormalHasItsMedianAndSpread) {
  WorkloadConfig config;
  config.seed = 3;
  config.requests = {LognormalRequests{.count = 20'000, .median = 200.0, .sigma = 0.5}};
  const auto quantiles = [](const WorkloadConfig& one) {
    std::multiset<std::int64_t> lengths;
    const auto workload = make_workload(one, nullptr, 10, 1, Rank(0));
    for (const Request& request : workload.steps.front().batch.requests) {
      lengths.insert(one.phase == WorkPhase::decode ? request.context_length
                                                    : request.query_length);
    }
    const auto at = [&](double share) {
      return static_cast<double>(
          *std::next(lengths.begin(),
                     static_cast<std::ptrdiff_t>(share * static_cast<double>(lengths.size() - 1))));
    };
    return std::vector<double>{at(0.0), at(0.1587), at(0.5), at(0.8413), at(1.0)};
  };
  const auto lengths = quantiles(config);
  EXPECT_NEAR(lengths[1], 200.0 * 0.6065, 4.0);
  EXPECT_NEAR(lengths[2], 200.0, 4.0);
  EXPECT_NEAR(lengths[3], 200.0 * 1.6487, 8.0);
  EXPECT_GT(lengths[4], 900.0);

  auto decode = config;
  decode.phase = WorkPhase::decode;
  decode.context = ContextFill::random;
  EXPECT_EQ(quantiles(decode), lengths) << "the same draws, of contexts";
  EXPECT_EQ(make_workload(decode, nullptr, 10, 1, Rank(0)).steps[0].batch.num_tokens(), 20'000);

  // Groups do not repeat each other.
  config.requests.emplace_back(std::get<LognormalRequests>(config.requests.front()));
  const auto both = make_workload(config, nullptr, 10, 1, Rank(0)).steps.front().batch.requests;
  int equal = 0;
  for (std::size_t i = 0; i < 20'000; ++i) {
    equal += both[i].query_length == both[20'000 + i].query_length ? 1 : 0;
  }
  EXPECT_LT(equal, 1000);

  config.requests = {
      LognormalRequests{.count = 2'000, .median = 1.0, .sigma = 3.0, .max_length = 50}};
  const auto cut = quantiles(config);
  EXPECT_EQ(cut.front(), 1.0);
  EXPECT_EQ(cut.back(), 50.0);
}

TEST(Workload, MropePositionsAgainstPlainLoops) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  std::set<std::int64_t> heights;
  for (int i = 0; i < 300; ++i) {
    const auto num_tokens = std::uniform_int_distribution<std::int64_t>(1, 400)(random);
    const MropeLayout layout = mrope_layout(seed, i, num_tokens);
    heights.insert(layout.height);
    std::vector<std::array<std::int64_t, 3>> expected;
    std::int64_t next = 0;
    while (next < layout.prefix) {
      expected.push_back({next, next, next});
      ++next;
    }
    for (std::int64_t row = 0; row < layout.height; ++row) {
      for (std::int64_t column = 0; column < layout.width; ++column) {
        expected.push_back({layout.prefix, layout.prefix + row, layout.prefix + column});
        next = std::max({next, layout.prefix + row + 1, layout.prefix + column + 1});
      }
    }
    if (num_tokens >= 6) {
      EXPECT_GE(layout.prefix, 1);
      EXPECT_GE(layout.height, 2);
      EXPECT_GE(layout.width, 2);
      EXPECT_LT(std::ssize(expected), num_tokens) << "text after the image";
    } else {
      EXPECT_TRUE(expected.empty());
    }
    for (; std::ssize(expected) < num_tokens; ++next) {
      expected.push_back({next, next, next});
    }
    for (std::int64_t token = 0; token < num_tokens; ++token) {
      ASSERT_EQ(layout.at(token), expected[static_cast<std::size_t>(token)]) << token;
    }
  }
  EXPECT_GT(heights.size(), 5U);

  auto config = uniform(2, 30, 10);
  config.positions = PositionKind::mrope;
  const World world = all_ranks(config, 1);
  for (const auto& [key, facts] : world.tokens) {
    const auto position = mrope_layout(config.seed, key.first, 40).at(key.second);
    EXPECT_EQ(std::get<3>(facts), std::vector<std::int64_t>(position.begin(), position.end()));
  }
}

TEST(Workload, TheDigestSeesEveryInput) {
  const auto base = uniform(3, 8, 16);
  std::set<std::uint64_t> digests = {all_ranks(base, 1).digest};
  const auto add = [&](const std::string& name, const auto& change) {
    WorkloadConfig config = base;
    change(config);
    EXPECT_TRUE(digests.insert(all_ranks(config, 1).digest).second) << name;
  };
  const auto group = [](WorkloadConfig& config) -> UniformRequests& {
    return std::get<UniformRequests>(config.requests.front());
  };
  add("count", [&](WorkloadConfig& config) { group(config).count = 4; });
  add("length", [&](WorkloadConfig& config) { group(config).length = 9; });
  add("context", [&](WorkloadConfig& config) { group(config).context_length = 17; });
  add("shift", [&](WorkloadConfig& config) {
    group(config).length = 9;
    group(config).context_length = 15;
  });
  add("fill", [](WorkloadConfig& config) { config.context = ContextFill::random; });
  add("seed of the fill", [](WorkloadConfig& config) {
    config.context = ContextFill::random;
    config.seed = 8;
  });
  add("seed", [](WorkloadConfig& config) { config.seed = 8; });
  add("steps", [](WorkloadConfig& config) { config.steps = 2; });
  add("embeds", [](WorkloadConfig& config) { config.inputs.kind = InputKind::embeds; });
  add("hidden", [](WorkloadConfig& config) { config.inputs.kind = InputKind::hidden; });
  add("mrope", [](WorkloadConfig& config) { config.positions = PositionKind::mrope; });

  // How a context is filled does not matter where there is none.
  auto without = uniform(3, 8);
  const auto digest = all_ranks(without, 1).digest;
  without.context = ContextFill::random;
  EXPECT_EQ(all_ranks(without, 1).digest, digest);
}

/// With one token id all that the seed decides is hidden from the ids.
TEST(Workload, TheDigestSeesTheSeedOfWhatIsNoId) {
  const auto digests_differ = [](const auto& change) {
    auto config = uniform(3, 8, 16);
    change(config);
    const auto digest = all_ranks(config, 1, nullptr, 1).digest;
    config.seed = 8;
    return all_ranks(config, 1, nullptr, 1).digest != digest;
  };
  EXPECT_FALSE(digests_differ([](WorkloadConfig& /*config*/) {}));
  EXPECT_TRUE(digests_differ([](WorkloadConfig& config) { config.context = ContextFill::random; }));
  EXPECT_TRUE(
      digests_differ([](WorkloadConfig& config) { config.inputs.kind = InputKind::embeds; }));
  EXPECT_TRUE(
      digests_differ([](WorkloadConfig& config) { config.positions = PositionKind::mrope; }));
}

TEST(Workload, TooManyTokensOrRequestsAreRefused) {
  EXPECT_THROW(make_workload(uniform(1'000'000, 101), nullptr, 10, 1, Rank(0)), InputError);
  EXPECT_THROW(make_workload(uniform(1, 1, kMaxRankTokens), nullptr, 10, 1, Rank(0)), InputError);
  auto random = uniform(1, 1, kMaxRankTokens);
  random.context = ContextFill::random;
  EXPECT_EQ(make_workload(random, nullptr, 10, 1, Rank(0)).kv_tokens.front(), kMaxRankTokens + 1);
  EXPECT_THROW(requests_per_rank(uniform(1'000'000, 1), nullptr, 11), InputError);
}

RequestTrace trace_of(const std::string& text) {
  return parse_request_trace(text, "trace.jsonl");
}

WorkloadConfig traced(WorkPhase phase = WorkPhase::mixed) {
  WorkloadConfig config;
  config.phase = phase;
  config.requests = {RequestFile{"trace.jsonl"}};
  return config;
}

TEST(Workload, TracesGiveIdsOfTheFirstStepAndRanks) {
  const auto trace = trace_of(
      "{\"length\": 3}\n"
      "{\"input_ids\": [5, 999, 0], \"context_length\": 2, \"rank\": 1}\n"
      "{\"length\": 4, \"rank\": 1}\n"
      "{\"length\": 5}\n");
  auto config = traced();
  config.steps = 2;
  EXPECT_EQ(requests_per_rank(config, &trace, 2), (std::vector<std::int64_t>{2, 2}));
  const auto first = make_workload(config, &trace, kVocabulary, 2, Rank(0));
  EXPECT_EQ(first.steps[0].batch.requests[0].id, 0);
  EXPECT_EQ(first.steps[0].batch.requests[1].id, 3);
  const World world = all_ranks(config, 2, &trace);
  EXPECT_EQ(std::get<1>(world.tokens.at({1, 2})), 5);
  EXPECT_EQ(std::get<1>(world.tokens.at({1, 3})), 999);
  EXPECT_EQ(std::get<1>(world.tokens.at({1, 4})), 0);
  EXPECT_EQ(world.kv_tokens.at(1), 2 + 2 * 3);
  // One rank can hold all of it only if no line names another.
  const auto free_trace = trace_of("{\"length\": 3}\n{\"input_ids\": [5, 7]}\n{\"length\": 1}");
  for (const int world_size : {2, 3, 5}) {
    EXPECT_EQ(all_ranks(config, world_size, &free_trace), all_ranks(config, 1, &free_trace));
  }
  const auto with_context = trace_of("{\"context_ids\": [7, 6], \"input_ids\": [5]}");
  const World contexts = all_ranks(config, 1, &with_context);
  EXPECT_EQ(std::get<1>(contexts.tokens.at({0, 0})), 7);
  EXPECT_EQ(std::get<1>(contexts.tokens.at({0, 1})), 6);
  EXPECT_EQ(std::get<1>(contexts.tokens.at({0, 2})), 5);
  const auto other = trace_of("{\"length\": 3}\n{\"input_ids\": [5, 8]}\n{\"length\": 1}");
  EXPECT_NE(all_ranks(config, 1, &other).digest, all_ranks(config, 1, &free_trace).digest);
}

TEST(Workload, TracedRequestsGoToTheLeastLoadedRank) {
  std::string lines;
  for (int i = 0; i < 12; ++i) {
    lines += "{\"length\": 1}\n";
  }
  const auto trace = trace_of(lines);
  auto config = traced();
  EXPECT_EQ(requests_per_rank(config, &trace, 5), (std::vector<std::int64_t>{3, 3, 2, 2, 2}));
  config.rank_scale = {1.0, 0.5, 0.0, 1.5};
  EXPECT_EQ(requests_per_rank(config, &trace, 4), (std::vector<std::int64_t>{4, 2, 0, 6}));
  EXPECT_EQ(make_workload(config, &trace, 10, 4, Rank(3)).steps[0].batch.requests[0].id, 0)
      << "1 / 1.5 is the least";
  const auto to_idle = trace_of("{\"length\": 1, \"rank\": 2}\n{\"length\": 1}\n");
  EXPECT_EQ(requests_per_rank(config, &to_idle, 4), (std::vector<std::int64_t>{0, 0, 1, 1}));
  config.rank_scale = {0.0, 0.0};
  EXPECT_THROW(requests_per_rank(config, &trace, 2), InputError);
  // By tokens, not by requests; by contexts where tokens are equal.
  config = traced();
  const auto uneven =
      trace_of("{\"length\": 4000}\n{\"length\": 10}\n{\"length\": 4000}\n{\"length\": 10}\n");
  EXPECT_EQ(make_workload(config, &uneven, 10, 2, Rank(0)).steps[0].batch.num_tokens(), 4010);
  const auto contexts = trace_of(
      "{\"length\": 1, \"context_length\": 500}\n{\"length\": 1, \"context_length\": 20}\n"
      "{\"length\": 1, \"context_length\": 30}\n{\"length\": 1, \"context_length\": 40}\n");
  EXPECT_EQ(make_workload(config, &contexts, 10, 2, Rank(1)).kv_tokens,
            (std::vector<std::int64_t>{21, 31}));
}

/// The plain way, over all ranks for each request.
std::vector<int> plain_ranks(const RequestTrace& trace, const std::vector<double>& scales) {
  std::vector<std::int64_t> step(scales.size());
  std::vector<std::int64_t> context(scales.size());
  std::vector<int> ranks;
  for (const TraceRequest& line : trace.requests) {
    int best = line.rank.value_or(-1);
    std::pair<double, double> least;
    for (std::size_t rank = 0; !line.rank && rank < scales.size(); ++rank) {
      const std::pair load = {
          static_cast<double>(step[rank] + line.length) / scales[rank],
          static_cast<double>(context[rank] + line.context_length) / scales[rank]};
      if (scales[rank] > 0.0 && (best < 0 || load < least)) {
        best = static_cast<int>(rank);
        least = load;
      }
    }
    step[static_cast<std::size_t>(best)] += line.length;
    context[static_cast<std::size_t>(best)] += line.context_length;
    ranks.push_back(best);
  }
  return ranks;
}

TEST(Workload, TracedRequestsGoWhereThePlainWayPutsThem) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 200; ++round) {
    const auto world_size = 1 + random() % 9;
    auto config = traced();
    for (std::size_t rank = 0; rank < world_size; ++rank) {
      config.rank_scale.push_back(
          std::array<double, 5>{1.0, 1.0, 0.5, 1.0 / 3.0, 0.0}[rank == 0 ? 0 : random() % 5]);
    }
    std::string lines;
    for (auto left = 1 + random() % 60; left > 0; --left) {
      lines += "{\"length\": " + std::to_string(1 + random() % 3) +
               ", \"context_length\": " + std::to_string(random() % 4);
      lines += random() % 5 == 0 ? ", \"rank\": " + std::to_string(random() % world_size) : "";
      lines += "}\n";
    }
    const auto trace = trace_of(lines);
    const auto planned = plan_requests(config, &trace, static_cast<int>(world_size));
    std::vector<int> ranks;
    ranks.reserve(planned.size());
    for (const PlannedRequest& request : planned) {
      ranks.push_back(request.rank);
    }
    ASSERT_EQ(ranks, plain_ranks(trace, config.rank_scale)) << lines;
  }
}

/// In the plain way this takes an hour.
TEST(Workload, ATraceOfAMillionRequestsOnManyRanks) {
  RequestTrace trace;
  trace.file = "long.jsonl";
  trace.requests.assign(1'000'000, {.length = 2, .context_length = 1});
  const auto counts = requests_per_rank(traced(), &trace, 1000);
  EXPECT_EQ(counts, std::vector<std::int64_t>(1000, 1000));
}

TEST(Workload, RulesOfATrace) {
  const auto error = [](const WorkloadConfig& config, const std::string& text, int world_size) {
    const auto trace = trace_of(text);
    return testing::input_error_of(
        [&] { make_workload(config, &trace, kVocabulary, world_size, Rank(0)); });
  };
  const std::string good = "{\"length\": 1}\n";
  EXPECT_EQ(error(traced(), good + "{\"length\": 2, \"rank\": 1}", 2), "");
  EXPECT_EQ(error(traced(), good + "{\"length\": 2, \"rank\": 2}", 2),
            "trace.jsonl:2: rank 2 in a world of 2; allowed: 0 to 1");
  EXPECT_EQ(error(traced(), good + "{\"input_ids\": [3, 1000]}", 2),
            "trace.jsonl:2: input_ids[1] is 1000, outside of the vocabulary; allowed: 0 to 999");
  EXPECT_EQ(error(traced(), good + "{\"length\": 1, \"context_ids\": [1000]}", 2),
            "trace.jsonl:2: context_ids[0] is 1000, outside of the vocabulary; allowed: 0 to 999");
  auto random = traced();
  random.context = ContextFill::random;
  EXPECT_EQ(error(random, "{\"length\": 1, \"context_ids\": [1]}", 2),
            "trace.jsonl:1: context_ids without forward passes from tokens to a context; allowed: "
            "context_length, or workload.inputs ids and workload.context prefill");
  EXPECT_EQ(error(traced(), good + "{\"context_length\": 2}", 2),
            "trace.jsonl:2: neither length nor input_ids; allowed in the phase mixed: one of them");
  const auto decode = traced(WorkPhase::decode);
  EXPECT_EQ(error(decode, good + "{\"context_length\": 2}\n{}\n{\"input_ids\": [4]}", 2), "");
  EXPECT_EQ(error(decode, good + "{\"length\": 2}", 2),
            "trace.jsonl:2: 2 tokens in the phase decode; allowed: a length of 1, or none");
  EXPECT_NE(error(decode, good + "{\"input_ids\": [4, 4]}", 2), "");
  auto embeds = traced();
  embeds.inputs.kind = InputKind::embeds;
  EXPECT_EQ(error(embeds, good, 2), "");
  EXPECT_EQ(error(embeds, "{\"input_ids\": [4]}", 2),
            "trace.jsonl:1: input_ids with workload.inputs embeds; allowed: length");
  EXPECT_NE(error(embeds, "{\"length\": 1, \"context_ids\": [4]}", 2), "");
  auto hidden = traced();
  hidden.inputs.kind = InputKind::hidden;
  EXPECT_EQ(error(hidden, "{\"length\": 1, \"context_length\": 3}", 2),
            "trace.jsonl:1: a context_length with workload.inputs hidden; allowed: 0, or "
            "workload.context random");
  hidden.context = ContextFill::random;
  EXPECT_EQ(error(hidden, "{\"length\": 1, \"context_length\": 3}", 2), "");
  EXPECT_NE(error(hidden, "{\"input_ids\": [4]}", 2), "");
}

TEST(Workload, PositionsThatAModelIsNotBuiltForAreRefused) {
  RankWorkload workload;
  workload.context_steps.resize(1);
  workload.steps.resize(2);
  workload.context_steps[0].positions = {0, 9};
  workload.steps[1].positions = {4};
  EXPECT_NO_THROW(check_positions(workload, 0));
  EXPECT_NO_THROW(check_positions(workload, 10));
  EXPECT_NE(testing::input_error_of([&] { check_positions(workload, 9); }).find("position 9"),
            std::string::npos);
  workload.steps[1].mrope_positions = {4, 12, 3};
  EXPECT_THROW(check_positions(workload, 12), InputError);
  EXPECT_NO_THROW(check_positions(workload, 13));
}

}  // namespace
}  // namespace dovetail
