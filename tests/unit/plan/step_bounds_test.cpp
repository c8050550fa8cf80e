// The agreed bounds of a step against a count token by token over the batches of all ranks.
#include "framework/plan/step_bounds.hpp"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "framework/plan/agreement.hpp"
#include "framework/plan/split.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

/// A token: its request's place in the batch and its position in the request, context included.
struct Token {
  std::size_t request = 0;
  std::int64_t position = 0;
};

std::vector<Token> tokens_of(const Batch& batch) {
  std::vector<Token> tokens;
  for (std::size_t r = 0; r < batch.requests.size(); ++r) {
    const auto& request = batch.requests[r];
    for (std::int64_t t = 0; t < request.query_length; ++t) {
      tokens.push_back({r, request.context_length + t});
    }
  }
  return tokens;
}

/// Raises the bounds of ubatch u to what these tokens need.
void raise(StepBounds& bounds, std::size_t u, const std::vector<Token>& tokens) {
  std::map<std::size_t, std::pair<std::int64_t, std::int64_t>> reach;  // first and last position
  for (const auto& token : tokens) {
    const auto [at, is_new] =
        reach.try_emplace(token.request, std::pair(token.position, token.position));
    at->second.second = token.position;
  }
  std::int64_t keys = 0;
  for (const auto& [request, positions] : reach) {
    keys += positions.second + 1;
    bounds.context[u] = std::max(bounds.context[u], positions.first);
  }
  bounds.tokens[u] = std::max(bounds.tokens[u], std::ssize(tokens));
  bounds.segments[u] = std::max(bounds.segments[u], std::ssize(reach));
  bounds.keys[u] = std::max(bounds.keys[u], keys);
}

/// By counting; unrounded.
StepBounds counted_bounds(const std::vector<Batch>& batches,
                          const std::vector<std::vector<UbatchSlice>>& slices,
                          int num_ubatches) {
  StepBounds bounds;
  bounds.num_ubatches = num_ubatches;
  for (std::size_t rank = 0; rank < batches.size(); ++rank) {
    const auto tokens = tokens_of(batches[rank]);
    for (std::size_t u = 0; u < static_cast<std::size_t>(num_ubatches); ++u) {
      const auto first = tokens.begin() + (num_ubatches == 1 ? 0 : slices[rank][u].token_start);
      const auto end = num_ubatches == 1 ? tokens.end() : first + slices[rank][u].num_tokens;
      raise(bounds, u, {first, end});
    }
    for (const auto& request : batches[rank].requests) {
      if (request.query_length > 0) {
        bounds.query_length = std::max(bounds.query_length, request.query_length);
        bounds.key_length =
            std::max(bounds.key_length, request.context_length + request.query_length);
      }
    }
  }
  return bounds;
}

/// The smallest multiple that is not below; by steps.
std::int64_t slowly_rounded(std::int64_t value, std::int64_t step) {
  std::int64_t rounded = 0;
  while (rounded < value) {
    rounded += step;
  }
  return rounded;
}

Batch random_batch(std::mt19937_64& random) {
  Batch batch;
  const auto below = [&](std::uint64_t limit) {
    return static_cast<std::int64_t>(random() % limit);
  };
  const bool decode = below(2) == 0;
  for (std::int64_t left = below(6); left > 0; --left) {  // 0 = an idle rank
    const std::int64_t context = below(3) == 0 ? 0 : below(700);
    batch.requests.push_back({0, decode ? below(2) : below(60), context});
  }
  return batch;
}

TEST(StepBounds, AreTheLargestOverRanksInRandomBatches) {
  std::mt19937_64 random(testing::fresh_seed());
  int num_ubatched = 0;
  for (int repeat = 0; repeat < 1500; ++repeat) {
    const int num_ubatches = 1 + static_cast<int>(random() % kMaxUbatches);
    SplitRule rule;
    rule.kind = random() % 2 == 0 ? "token_midpoint" : "request";
    const bool vetoed = random() % 4 == 0;
    std::vector<Batch> batches(1 + random() % 4);
    std::vector<std::vector<UbatchSlice>> slices;
    std::vector<AgreementMessage> messages;
    for (std::size_t rank = 0; rank < batches.size(); ++rank) {
      batches[rank] = random_batch(random);
      slices.push_back(split_batch(batches[rank], rule, num_ubatches));
      messages.push_back(make_message({.rank = Rank(static_cast<int>(rank)),
                                       .batch = batches[rank],
                                       .slices = slices.back(),
                                       .veto = vetoed ? VetoReason::rank_veto : VetoReason::none}));
    }
    AgreementMessage reduced = messages[0];
    for (std::size_t rank = 1; rank < messages.size(); ++rank) {
      reduced = reduce(reduced, messages[rank]);
    }
    const auto decision = decide(reduced, {.num_ubatches = num_ubatches});
    num_ubatched += decision.ubatched ? 1 : 0;
    auto wanted = counted_bounds(batches, slices, decision.ubatched ? num_ubatches : 1);
    for (std::size_t u = 0; u < wanted.keys.size(); ++u) {
      wanted.keys[u] = slowly_rounded(wanted.keys[u], 1024);
      wanted.context[u] = slowly_rounded(wanted.context[u], 256);
    }
    wanted.key_length = slowly_rounded(wanted.key_length, 256);
    ASSERT_EQ(decision.bounds.num_ubatches, wanted.num_ubatches) << "repeat " << repeat;
    ASSERT_EQ(decision.bounds.tokens, wanted.tokens) << "repeat " << repeat;
    ASSERT_EQ(decision.bounds.segments, wanted.segments) << "repeat " << repeat;
    ASSERT_EQ(decision.bounds.keys, wanted.keys) << "repeat " << repeat;
    ASSERT_EQ(decision.bounds.context, wanted.context) << "repeat " << repeat;
    ASSERT_TRUE(decision.bounds == wanted) << "repeat " << repeat;
  }
  EXPECT_GT(num_ubatched, 300)
      << "the random steps are not ubatched often enough to prove anything";
}

TEST(StepBounds, AnEarlierUbatchIsContextOfALater) {
  const Batch batch{{{0, 100, 0}, {1, 0, 5000}, {2, 20, 300}}};
  const auto slices = split_batch(batch, {}, 2);  // 60 | 40 + 20
  const auto message = make_message({.rank = Rank(0), .batch = batch, .slices = slices});
  const auto split = decide(message, {.num_ubatches = 2}).bounds;
  EXPECT_EQ(split.num_ubatches, 2);
  EXPECT_EQ(split.tokens[0], 60);
  EXPECT_EQ(split.tokens[1], 60);
  EXPECT_EQ(split.segments[0], 1);
  EXPECT_EQ(split.segments[1], 2) << "the request without tokens is no segment";
  EXPECT_EQ(message.max_ubatch_keys[0], 60);
  EXPECT_EQ(message.max_ubatch_keys[1], 100 + 320);
  EXPECT_EQ(split.context[0], 0) << "no context: prefill without the cache";
  EXPECT_EQ(message.max_ubatch_context[1], 300);
  EXPECT_EQ(split.context[1], 512);
  EXPECT_EQ(split.query_length, 100);
  EXPECT_EQ(message.max_key_length, 320);
  EXPECT_EQ(split.key_length, 512);

  const auto whole = decide(message, {.num_ubatches = 1}).bounds;
  EXPECT_EQ(whole.num_ubatches, 1);
  EXPECT_EQ(whole.tokens[0], 120);
  EXPECT_EQ(whole.tokens[1], 0) << "nothing of the split is left";
  EXPECT_EQ(whole.segments[0], 2);
  EXPECT_EQ(message.max_keys, 420);
  EXPECT_EQ(whole.keys[0], 1024);
  EXPECT_EQ(whole.keys[1], 0);
}

TEST(PaddedBounds, RoundKeysUpAndNothingElse) {
  StepBounds exact;
  exact.num_ubatches = 3;
  exact.tokens = {7, 8, 9};
  exact.segments = {1, 2, 3};
  exact.keys = {1, 1024, 1025};
  exact.context = {0, 256, 257};
  exact.query_length = 7;
  exact.key_length = 511;
  StepBounds wanted = exact;
  wanted.keys = {1024, 1024, 2048};
  wanted.context = {0, 256, 512};
  wanted.key_length = 512;
  EXPECT_TRUE(padded_bounds(exact, {}) == wanted);
  EXPECT_TRUE(padded_bounds(wanted, {}) == wanted) << "rounded bounds stay";
  EXPECT_TRUE(padded_bounds({}, {}) == StepBounds{});
}

/// Why there is rounding at all: the steps of a decode share their bounds, until a multiple is
/// passed.
TEST(PaddedBounds, DecodeStepsShareThem) {
  const auto bounds_at = [](std::int64_t context) {
    const Batch batch{{{0, 1, context}, {1, 1, context}}};
    const auto slices = split_batch(batch, {}, 2);
    return decide(make_message({.rank = Rank(0), .batch = batch, .slices = slices}),
                  {.num_ubatches = 2})
        .bounds;
  };
  EXPECT_TRUE(bounds_at(300) == bounds_at(500));
  EXPECT_FALSE(bounds_at(300) == bounds_at(600));
}

StepBounds random_bounds(std::mt19937_64& random, int num_ubatches) {
  StepBounds bounds;
  bounds.num_ubatches = num_ubatches;
  for (std::size_t u = 0; u < static_cast<std::size_t>(num_ubatches); ++u) {
    bounds.tokens[u] = static_cast<std::int64_t>(random() % 3000);
    bounds.segments[u] = bounds.tokens[u] > 0 ? 1 + static_cast<std::int64_t>(random() % 9) : 0;
    bounds.context[u] = bounds.tokens[u] > 0 && random() % 2 == 0 ? 700 : 0;
    bounds.keys[u] = bounds.tokens[u] + bounds.context[u] * bounds.segments[u];
  }
  bounds.query_length = 1 + static_cast<std::int64_t>(random() % 40);
  bounds.key_length = 700 + bounds.query_length;
  return bounds;
}

/// All numbers of bounds.
std::string describe_all(const StepBounds& bounds) {
  std::ostringstream text;
  text << bounds.num_ubatches << ' ' << bounds.query_length << ' ' << bounds.key_length;
  for (const auto* numbers : {&bounds.tokens, &bounds.segments, &bounds.keys, &bounds.context}) {
    for (const auto number : *numbers) {
      text << ' ' << number;
    }
  }
  return text.str();
}

/// What a rule must keep: nothing gets smaller, padding of tokens is bounded, equal tokens stay,
/// and the shapes of many steps are few.
TEST(BoundsRule, PadsLittleAndKeepsWhatIsNeeded) {
  std::mt19937_64 random(testing::fresh_seed());
  for (int repeat = 0; repeat < 300; ++repeat) {
    const int num_ubatches = 1 + static_cast<int>(random() % kMaxUbatches);
    std::vector<StepBounds> split;
    std::vector<StepBounds> whole;
    for (int step = 0; step < 8; ++step) {
      split.push_back(random_bounds(random, num_ubatches));
      whole.push_back(random_bounds(random, 1));
    }
    const auto rule = make_bounds_rule(std::nullopt, split, whole);
    std::set<std::string> shapes;
    for (const auto* steps : {&split, &whole}) {
      for (const auto& exact : *steps) {
        shapes.insert(describe_all(padded_bounds(exact, rule)));
      }
    }
    ASSERT_EQ(rule.num_shapes, static_cast<int>(shapes.size())) << "repeat " << repeat;
    for (const auto& exact : split) {
      const auto padded = padded_bounds(exact, rule);
      ASSERT_EQ(padded.num_ubatches, exact.num_ubatches);
      for (std::size_t u = 0; u < exact.tokens.size(); ++u) {
        ASSERT_GE(padded.tokens[u], exact.tokens[u]);
        ASSERT_LE(padded.tokens[u],
                  exact.tokens[u] == 0
                      ? 0
                      : std::max(exact.tokens[u] + 8, exact.tokens[u] + exact.tokens[u] / 16 + 1));
        ASSERT_GE(padded.segments[u], exact.segments[u]);
        ASSERT_GE(padded.keys[u], exact.keys[u]);
        ASSERT_GE(padded.context[u], exact.context[u]);
        ASSERT_EQ(padded.context[u] == 0, exact.context[u] == 0) << "another kernel";
      }
      ASSERT_GE(padded.key_length, exact.key_length);
      ASSERT_GE(padded.query_length, exact.query_length);
      ASSERT_EQ(padded.query_length == 1, exact.query_length == 1) << "another kernel";
    }
  }
}

TEST(BoundsRule, EqualStepsAreNotPadded) {
  StepBounds step;
  step.num_ubatches = 2;
  step.tokens = {445, 444};
  step.segments = {4, 4};
  step.query_length = 127;
  step.keys = {1024, 1024};
  step.key_length = 256;
  auto whole = step;
  whole.num_ubatches = 1;
  whole.tokens = {889};
  const auto rule =
      make_bounds_rule(std::nullopt, std::vector{step, step}, std::vector{whole, whole});
  EXPECT_TRUE(rule.token_sizes.empty());
  EXPECT_TRUE(padded_bounds(step, rule) == step);
}

TEST(BoundsRule, StatedSizesAreTaken) {
  StepBounds step;
  step.tokens = {5};
  const std::vector<StepBounds> steps = {step};
  const auto rule = make_bounds_rule(std::vector<std::int64_t>{4, 32}, steps, steps);
  EXPECT_EQ(padded_bounds(step, rule).tokens[0], 32);
  step.tokens = {33};
  EXPECT_EQ(padded_bounds(step, rule).tokens[0], 33) << "more than the largest";
  step.tokens = {0};
  EXPECT_EQ(padded_bounds(step, rule).tokens[0], 0);
}

}  // namespace
}  // namespace dovetail
