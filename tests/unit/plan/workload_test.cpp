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
#include "tests/unit/plan/workload_world.hpp"

namespace dovetail {
namespace {

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
