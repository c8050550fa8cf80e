// Parity with transformers over a cache and for other inputs than ids: decode, mixed batches,
// M-RoPE positions, embeddings (tests/fixtures/make_fixtures.py).
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "models/qwen3_moe.hpp"
#include "tests/unit/models/chunked_run.hpp"
#include "tests/unit/models/fixture.hpp"

namespace dovetail {
namespace {

constexpr double kTolerance = 1e-5;
constexpr std::int64_t kDecodeSteps = 16;
constexpr int kPageSizes[] = {1, 3, 16, 1000};

const std::string kFixtures[] = {"qwen3-moe-tiny",
                                 "odd-heads-stacked",
                                 "tied-dense-sharded",
                                 "all-experts-half",
                                 "yarn-nested",
                                 "mixtral-linear",
                                 "mixtral-yarn-stacked",
                                 "qwen2-moe-llama3",
                                 "qwen2-moe-odd",
                                 "deepseek-v2-groups",
                                 "deepseek-v2-lite",
                                 "deepseek-v3-groups",
                                 "kimi-k2-tiny",
                                 "glm4-moe-norms",
                                 "glm4-moe-biases"};
const std::string kMropeFixtures[] = {"mrope-interleaved", "mrope-contiguous"};

at::Tensor rows(const at::Tensor& all, const std::vector<std::int64_t>& wanted) {
  return at::index_select(all, 0, at::tensor(wanted, at::kLong));
}

ChunkedRequests requests_of(const Fixture& fixture) {
  return {fixture.requests, fixture.embeds, fixture.positions};
}

/// All tokens in one batch.
ChunkedResult run_whole(const std::vector<std::unique_ptr<Model>>& ranks, const Fixture& fixture) {
  const auto lengths = lengths_of(fixture.requests);
  SerialCache cache = make_serial_cache(*ranks.front(), lengths, 5);
  return run_chunks(ranks, requests_of(fixture), {lengths}, cache);
}

double worst_error(const ChunkedResult& result, const Fixture& fixture) {
  const double hidden = relative_error(result.hidden, fixture.hidden);
  const double logits = relative_error(result.logits, fixture.logits);
  return std::isnan(hidden) || std::isnan(logits) ? std::nan("") : std::max(hidden, logits);
}

bool is_seen(double error) {
  return std::isnan(error) || error > 1e-3;
}

/// Prompts in one batch, then one token of each request a step.
ChunkSizes decode_sizes(const Fixture& fixture) {
  ChunkSizes sizes(kDecodeSteps + 1, std::vector<std::int64_t>(fixture.lengths.size(), 1));
  sizes.front() = fixture.lengths;
  return sizes;
}

struct StepErrors {
  double hidden = 0;
  double logits = 0;
};

/// Largest error of a pass, each measured against its own largest value: pass 0 is the prefill.
StepErrors worst_step(const ChunkedResult& result, const Fixture& fixture) {
  StepErrors worst;
  for (std::int64_t pass = 0; pass <= kDecodeSteps; ++pass) {
    std::vector<std::int64_t> tokens;  // rows of the pass
    std::vector<std::int64_t> last;    // its last row of each request
    std::vector<std::int64_t> kept;    // the same among the logits of the fixture
    std::int64_t first_row = 0;
    for (std::size_t r = 0; r < fixture.lengths.size(); ++r) {
      const std::int64_t length = fixture.lengths[r];
      for (std::int64_t i = 0; pass == 0 && i < length; ++i) {
        tokens.push_back(first_row + i);
      }
      last.push_back(first_row + length - 1 + pass);
      kept.push_back(static_cast<std::int64_t>(r) * (kDecodeSteps + 1) + pass);
      first_row += length + kDecodeSteps;
    }
    tokens = pass == 0 ? tokens : last;
    worst.hidden = std::max(
        worst.hidden, relative_error(rows(result.hidden, tokens), rows(fixture.hidden, tokens)));
    worst.logits = std::max(worst.logits,
                            relative_error(rows(result.logits, last), rows(fixture.logits, kept)));
  }
  return worst;
}

class ContextParity : public testing::TestWithParam<std::string> {};

TEST_P(ContextParity, PrefillThenSixteenDecodeSteps) {
  const std::uint64_t seed = std::random_device{}();
  std::mt19937_64 random(seed);
  const Fixture fixture = load_fixture(GetParam(), "decode", kDecodeSteps);
  const auto ranks = make_models(fixture, 1, at::kFloat);
  StepErrors worst;
  for (const int page_size : kPageSizes) {
    for (const bool split : {false, true}) {
      SerialCache cache =
          make_serial_cache(*ranks.front(), lengths_of(fixture.requests), page_size, random());
      const ChunkedResult result = run_chunks(
          ranks, requests_of(fixture), decode_sizes(fixture), cache, split ? &random : nullptr);
      EXPECT_FALSE(result.hidden.isnan().any().item<bool>());
      const StepErrors errors = worst_step(result, fixture);
      worst.hidden = std::max(worst.hidden, errors.hidden);
      worst.logits = std::max(worst.logits, errors.logits);
      EXPECT_LT(errors.hidden, kTolerance) << "pages of " << page_size << ", seed " << seed;
      EXPECT_LT(errors.logits, kTolerance) << "pages of " << page_size << ", seed " << seed;
    }
  }
  std::printf("%s, decode, worst pass: hidden %.2e, logits %.2e\n",
              GetParam().c_str(),
              worst.hidden,
              worst.logits);
}

TEST_P(ContextParity, DecodeOffByOneOrInAnotherOrderIsSeen) {
  const Fixture fixture = load_fixture(GetParam(), "decode", kDecodeSteps);
  const auto ranks = make_models(fixture, 1, at::kFloat);
  const auto sizes = decode_sizes(fixture);
  // The tokens of two decode steps swapped.
  Fixture swapped = fixture;
  auto& tokens = swapped.requests.front();
  const auto first = static_cast<std::size_t>(fixture.lengths.front());
  std::size_t other = first + 1;
  while (tokens[other] == tokens[first]) {
    ++other;
  }
  std::swap(tokens[first], tokens[other]);
  SerialCache cache = make_serial_cache(*ranks.front(), lengths_of(fixture.requests), 4);
  const StepErrors errors =
      worst_step(run_chunks(ranks, requests_of(swapped), sizes, cache), fixture);
  EXPECT_TRUE(is_seen(errors.logits)) << errors.logits;
  // The first decode step with a context that is one too short, or one too long.
  for (const std::int64_t off : {-1, 1}) {
    SerialCache fresh = make_serial_cache(*ranks.front(), lengths_of(fixture.requests), 4);
    const std::vector<std::int64_t> none(fixture.lengths.size(), 0);
    run_step(ranks, next_step(requests_of(fixture), none, fixture.lengths), fresh);
    SerialStep step = next_step(requests_of(fixture), fixture.lengths, sizes.back());
    for (auto& context : step.context_lengths) {
      context += off;
    }
    std::vector<std::int64_t> expected_rows;
    for (std::size_t r = 0; r < fixture.lengths.size(); ++r) {
      expected_rows.push_back(static_cast<std::int64_t>(r) * (kDecodeSteps + 1) + 1);
    }
    const double error =
        relative_error(run_step(ranks, step, fresh).logits, rows(fixture.logits, expected_rows));
    EXPECT_TRUE(is_seen(error)) << error;
  }
}

TEST_P(ContextParity, MixedBatchesGiveEachRequestAlone) {
  const std::uint64_t seed = std::random_device{}();
  std::mt19937_64 random(seed);
  const Fixture fixture = load_fixture(GetParam());
  const auto ranks = make_models(fixture, 1, at::kFloat);
  const auto lengths = lengths_of(fixture.requests);
  double worst = 0;
  // The longest request in chunks; another starts when it has a context, a third decodes.
  ChunkSizes mixed(3, std::vector<std::int64_t>(lengths.size(), 0));
  const auto longest =
      static_cast<std::size_t>(std::max_element(lengths.begin(), lengths.end()) - lengths.begin());
  for (std::size_t r = 0; r < lengths.size(); ++r) {
    const auto length = lengths[r];
    if (r == longest) {
      mixed[0][r] = length / 3;
      mixed[1][r] = length / 2;
      mixed[2][r] = length - length / 3 - length / 2;
    } else if (r % 2 == 0 && length > 2) {
      mixed[0][r] = length - 2;
      mixed[1][r] = 1;
      mixed[2][r] = 1;
    } else {
      mixed[1][r] = length;
    }
  }
  for (int round = 0; round < 4; ++round) {
    const ChunkSizes sizes = round == 0 ? mixed : random_chunks(lengths, random);
    for (const int page_size : kPageSizes) {
      SerialCache cache = make_serial_cache(*ranks.front(), lengths, page_size, random());
      const double error =
          worst_error(run_chunks(ranks, requests_of(fixture), sizes, cache, &random), fixture);
      EXPECT_LT(error, kTolerance) << "pages of " << page_size << ", seed " << seed;
      worst = std::max(worst, error);
    }
  }
  std::printf("%s, mixed: %.2e\n", GetParam().c_str(), worst);
}

TEST_P(ContextParity, EmbedsInsteadOfIds) {
  std::mt19937_64 random(3);
  const Fixture fixture = load_fixture(GetParam(), "embeds");
  const auto ranks = make_models(fixture, 1, at::kFloat);
  const double whole = worst_error(run_whole(ranks, fixture), fixture);
  EXPECT_LT(whole, kTolerance);
  const auto lengths = lengths_of(fixture.requests);
  SerialCache cache = make_serial_cache(*ranks.front(), lengths, 4);
  const double chunked = worst_error(
      run_chunks(ranks, requests_of(fixture), random_chunks(lengths, random), cache, &random),
      fixture);
  EXPECT_LT(chunked, kTolerance);
  std::printf("%s, embeds: %.2e, in chunks %.2e\n", GetParam().c_str(), whole, chunked);
  Fixture changed = fixture;
  changed.embeds = fixture.embeds.clone();
  changed.embeds[20].mul_(1.1);
  changed.embeds[21].copy_(fixture.embeds[22]);
  EXPECT_TRUE(is_seen(worst_error(run_whole(ranks, changed), fixture)));
}

std::string test_name(const testing::TestParamInfo<std::string>& test) {
  std::string name = test.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Fixtures, ContextParity, testing::ValuesIn(kFixtures), test_name);

class MropeParity : public testing::TestWithParam<std::string> {};

TEST_P(MropeParity, IsThatOfTheTextBackbone) {
  const std::uint64_t seed = std::random_device{}();
  std::mt19937_64 random(seed);
  for (const std::string file : {"expected", "embeds"}) {
    const Fixture fixture = load_fixture(GetParam(), file);
    ASSERT_EQ(fixture.embeds.defined(), file == "embeds");
    ASSERT_TRUE(fixture.positions.defined());
    const auto ranks = make_models(fixture, 1, at::kFloat);
    const double whole = worst_error(run_whole(ranks, fixture), fixture);
    EXPECT_LT(whole, kTolerance);
    const auto lengths = lengths_of(fixture.requests);
    double chunked = 0;
    for (const int page_size : kPageSizes) {
      SerialCache cache = make_serial_cache(*ranks.front(), lengths, page_size, random());
      chunked = std::max(
          chunked,
          worst_error(
              run_chunks(
                  ranks, requests_of(fixture), random_chunks(lengths, random), cache, &random),
              fixture));
    }
    EXPECT_LT(chunked, kTolerance) << "seed " << seed;
    std::printf("%s, %s: %.2e, in chunks %.2e\n", GetParam().c_str(), file.c_str(), whole, chunked);
  }
}

TEST_P(MropeParity, OtherSectionsOrRowsAreSeen) {
  const Fixture fixture = load_fixture(GetParam());
  const MoeDecoderConfig config = read_qwen3_moe_config(fixture.folder + "/config.json");
  EXPECT_EQ(config.rope.mrope.interleaved, GetParam() == "mrope-interleaved");
  EXPECT_LT(worst_error(run_whole(make_models(fixture, config), fixture), fixture), kTolerance);
  const auto error_with = [&](const MropeSections& mrope) {
    MoeDecoderConfig changed = config;
    changed.rope.mrope = mrope;
    return worst_error(run_whole(make_models(fixture, changed), fixture), fixture);
  };
  const auto& section = config.rope.mrope.section;
  EXPECT_TRUE(
      is_seen(error_with({.section = section, .interleaved = !config.rope.mrope.interleaved})));
  EXPECT_TRUE(is_seen(error_with({.section = {section[0], section[2], section[1]},
                                  .interleaved = config.rope.mrope.interleaved})));
  EXPECT_TRUE(is_seen(error_with({.section = {section[0] + 1, section[1] - 1, section[2]},
                                  .interleaved = config.rope.mrope.interleaved})));
  const auto ranks = make_models(fixture, config);
  const auto error_of_rows = [&](const std::vector<std::int64_t>& order) {
    Fixture changed = fixture;
    changed.positions = rows(fixture.positions, order);
    return worst_error(run_whole(ranks, changed), fixture);
  };
  EXPECT_LT(error_of_rows({0, 1, 2}), kTolerance);
  EXPECT_TRUE(is_seen(error_of_rows({0, 2, 1})));
  EXPECT_TRUE(is_seen(error_of_rows({1, 0, 2})));
  EXPECT_TRUE(is_seen(error_of_rows({0, 0, 0})));
  Fixture text = fixture;
  text.positions = at::Tensor();
  EXPECT_TRUE(is_seen(worst_error(run_whole(ranks, text), fixture)));
}

INSTANTIATE_TEST_SUITE_P(Fixtures, MropeParity, testing::ValuesIn(kMropeFixtures), test_name);

}  // namespace
}  // namespace dovetail
