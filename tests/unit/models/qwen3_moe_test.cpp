// The model's phases: cuts into ubatches, ranks, padding, replay, loading and memory.
#include "models/qwen3_moe.hpp"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <numeric>
#include <random>
#include <set>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/isinf.h>
#include <ATen/ops/stack.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "models/weights/seeded.hpp"
#include "tests/unit/models/memory_source.hpp"
#include "tests/unit/models/serial_step.hpp"
#include "tests/unit/models/small_model.hpp"

namespace dovetail {
namespace {

constexpr double kTolerance = 2e-6;  // whole against cut, one rank against several

TEST(Qwen3Moe, CutsAtEveryTokenGiveTheWhole) {
  MemorySource source(1);
  const auto ranks = make_ranks(small_config(), source);
  SerialStep step = whole_step(random_requests(2, {7, 1, 20, 300}));
  const SerialResult whole = run_step(ranks, step);
  double worst = 0;
  for (std::int64_t cut = 0; cut <= 328; cut += cut < 40 || cut > 280 ? 1 : 31) {
    step.ubatch_ends = {cut, 328};
    const SerialResult result = run_step(ranks, step);
    worst = std::max({worst,
                      relative_error(result.hidden, whole.hidden),
                      relative_error(result.logits, whole.logits)});
    EXPECT_TRUE(at::equal(result.expert_ids[2], whole.expert_ids[2])) << cut;
    ASSERT_LT(worst, kTolerance) << "cut at " << cut;
  }
  std::printf("worst error of a cut %.2e\n", worst);
}

TEST(Qwen3Moe, ManyUbatchesOfAnySizeGiveTheWhole) {
  const std::uint64_t seed = std::random_device{}();
  std::mt19937_64 random(seed);
  MemorySource source(3);
  const auto ranks = make_ranks(small_config(), source);
  SerialStep step = whole_step(random_requests(seed, {30, 2, 11}));
  const SerialResult whole = run_step(ranks, step);
  for (int round = 0; round < 20; ++round) {
    step.ubatch_ends.clear();
    for (std::uint64_t ubatch = random() % 7; ubatch > 0; --ubatch) {
      step.ubatch_ends.push_back(static_cast<std::int64_t>(random() % 44));
    }
    step.ubatch_ends.push_back(43);
    std::sort(step.ubatch_ends.begin(), step.ubatch_ends.end());
    EXPECT_LT(relative_error(run_step(ranks, step).logits, whole.logits), kTolerance)
        << "seed " << seed;
  }
  // One token a ubatch, and empty ubatches at both ends.
  step.ubatch_ends.assign(45, 0);
  std::iota(step.ubatch_ends.begin() + 1, step.ubatch_ends.end(), 0);
  step.ubatch_ends.push_back(43);
  step.ubatch_ends[44] = 43;
  EXPECT_LT(relative_error(run_step(ranks, step).logits, whole.logits), kTolerance);
}

TEST(Qwen3Moe, LostContextIsSeen) {
  MemorySource source(1);
  const auto ranks = make_ranks(small_config(), source);
  const auto requests = random_requests(5, {12});
  const SerialResult whole = run_step(ranks, whole_step(requests));
  const SerialResult apart = run_step(ranks,
                                      whole_step({{requests[0].begin(), requests[0].begin() + 6},
                                                  {requests[0].begin() + 6, requests[0].end()}}));
  EXPECT_LT(relative_error(apart.logits.narrow(0, 0, 6), whole.logits.narrow(0, 0, 6)), kTolerance);
  EXPECT_GT(relative_error(apart.logits, whole.logits), 1e-2);
}

TEST(Qwen3Moe, NoTokensInAnyPhase) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    MemorySource source(1);
    const auto ranks = make_ranks(small_config(), source, 2, dtype);
    const SerialResult result = run_step(ranks, whole_step({}));
    EXPECT_EQ(result.hidden.sizes(), (std::vector<std::int64_t>{0, 48}));
    EXPECT_EQ(result.logits.sizes(), (std::vector<std::int64_t>{0, 50}));
    EXPECT_EQ(result.expert_ids[0].sizes(), (std::vector<std::int64_t>{0, 3}));
    EXPECT_EQ(run_step(ranks, whole_step({{7}})).logits.size(0), 1);
  }
}

TEST(Qwen3Moe, ExpertsSpreadOverRanksGiveTheSame) {
  MemorySource source(6);
  const SerialStep step = whole_step(random_requests(7, {9, 40}));
  const SerialResult whole = run_step(make_ranks(small_config(), source), step);
  for (const int ep_size : {2, 4, 8}) {
    const SerialResult result = run_step(make_ranks(small_config(), source, ep_size), step);
    EXPECT_LT(relative_error(result.logits, whole.logits), kTolerance) << ep_size;
  }
  // A rank that owns the wrong block is seen.
  auto ranks = make_ranks(small_config(), source, 2);
  std::swap(ranks[0], ranks[1]);
  EXPECT_GT(relative_error(run_step(ranks, step).logits, whole.logits), 1e-2);
  EXPECT_THROW(make_ranks(small_config(), source, 3), InputError);
}

TEST(Qwen3Moe, PaddingChangesNothingAndAsksForNoExpert) {
  MemorySource source(8);
  const auto ranks = make_ranks(small_config(), source);
  SerialStep step = whole_step(random_requests(9, {5, 14}));
  const SerialResult plain = run_step(ranks, step);
  step.padding = 4;
  step.ubatch_ends = {8, 19};
  int routed = 0;
  step.after_route = [&](int /*layer*/, UbatchState& state) {
    const at::Tensor padded = state.expert_ids.narrow(0, state.inputs.num_tokens - 4, 4);
    EXPECT_TRUE((padded == -1).all().item<bool>());
    EXPECT_FALSE((state.expert_ids.narrow(0, 0, 8) < 0).any().item<bool>());
    ++routed;
  };
  EXPECT_LT(relative_error(run_step(ranks, step).logits, plain.logits), kTolerance);
  EXPECT_EQ(routed, 4);
}

TEST(Qwen3Moe, ReplayTakesTheGivenExperts) {
  MemorySource source(10);
  const auto ranks = make_ranks(small_config(), source);
  SerialStep step = whole_step(random_requests(11, {6, 9}));
  const SerialResult natural = run_step(ranks, step);
  step.replay_ids = natural.expert_ids;
  step.ubatch_ends = {4, 15};
  const SerialResult replayed = run_step(ranks, step);
  EXPECT_LT(relative_error(replayed.logits, natural.logits), kTolerance);
  // Other experts are taken as they are, and make another result.
  step.replay_ids[0] = (step.replay_ids[0] + 1) % 8;
  const SerialResult other = run_step(ranks, step);
  EXPECT_TRUE(at::equal(other.expert_ids[0], step.replay_ids[0]));
  EXPECT_TRUE(at::equal(other.natural_ids[0], natural.expert_ids[0])) << "as the router would";
  EXPECT_GT(relative_error(other.logits, natural.logits), 1e-2);
}

TEST(Qwen3Moe, TwoDimensionalPositions) {
  MemorySource source(12);
  const auto ranks = make_ranks(small_config(), source);
  UbatchState state;
  state.inputs.num_tokens = 4;
  state.inputs.input_ids = at::arange(4, at::kLong);
  state.inputs.positions = at::arange(4, at::kLong);
  ranks[0]->embed(state);
  const at::Tensor text = state.rotary;
  state.inputs.positions =
      at::stack({state.inputs.positions, state.inputs.positions, state.inputs.positions});
  ranks[0]->embed(state);
  EXPECT_TRUE(at::equal(state.rotary, text));
  state.inputs.positions[2][3] = 17;
  ranks[0]->embed(state);
  EXPECT_FALSE(at::equal(state.rotary, text));
}

TEST(Qwen3Moe, MemoryIsWhatIsAllocatedAndReadOnce) {
  for (const bool tied : {false, true}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      MoeDecoderConfig config = small_config();
      config.tie_word_embeddings = tied;
      config.qkv_bias = tied;
      config.output_bias = tied;
      const MoeDecoderArchitecture architecture(config);
      for (int rank = 0; rank < 2; ++rank) {
        const ModelPlacement placement{
            .ep_size = 2, .ep_rank = rank, .dtype = dtype, .device = at::kCPU};
        MemorySource source(13);
        const auto model = architecture.make_model(source, placement);
        std::int64_t estimate = 0;
        for (const MemoryPart& part : architecture.weight_memory(placement)) {
          EXPECT_EQ(part.bytes == 0, part.name == "lm_head" && tied) << part.name;
          estimate += part.bytes;
        }
        EXPECT_EQ(estimate, source.storage_bytes());
        EXPECT_EQ(estimate, source.bytes_written());
        EXPECT_EQ(estimate, model->weight_bytes());
        const auto& names = source.names_read();
        EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
        EXPECT_EQ(names.front(), "model.embed_tokens.weight");
        EXPECT_EQ(names.back(), tied ? "model.norm.weight" : "lm_head.weight");
      }
    }
  }
}

TEST(Qwen3Moe, OrderOfReadingIsFixed) {
  MemorySource first(1);
  MemorySource second(2);
  make_ranks(small_config(), first, 1, at::kFloat);
  make_ranks(small_config(), second, 1, at::kHalf);
  EXPECT_EQ(first.names_read(), second.names_read());
}

TEST(Qwen3Moe, ReducedPrecisionIsCloseToFloat32) {
  MemorySource source(14);
  SerialStep step = whole_step(random_requests(15, {25, 3}));
  const SerialResult exact = run_step(make_ranks(small_config(), source), step);
  step.replay_ids = exact.expert_ids;
  for (const auto& [dtype, bound] : {std::pair(at::kBFloat16, 0.05), std::pair(at::kHalf, 0.006)}) {
    const SerialResult result = run_step(make_ranks(small_config(), source, 2, dtype), step);
    EXPECT_EQ(result.hidden.scalar_type(), dtype);
    EXPECT_EQ(result.weights[0].scalar_type(), at::kFloat);
    const double error = relative_error(result.logits, exact.logits);
    EXPECT_LT(error, bound);
    EXPECT_GT(error, bound / 100);
  }
}

TEST(Qwen3Moe, PhasesOfAnotherKindOfLayerAreRefused) {
  MemorySource source(16);
  const auto ranks = make_ranks(small_config(), source);
  UbatchState state;
  EXPECT_THROW(ranks[0]->mlp(0, state), ContractError);
  EXPECT_THROW(ranks[0]->route(1, state, {}), ContractError);
  EXPECT_THROW(ranks[0]->shared_experts(1, state), ContractError);
  EXPECT_THROW(ranks[0]->mlp(3, state), std::out_of_range);
}

TEST(Qwen3Moe, SeededWeightsGiveUsefulActivations) {
  const auto architecture = make_qwen3_moe(
      {"qwen3_moe", DOVETAIL_SOURCE_DIR "/models/configs/qwen3-moe-tiny.json", {}, {}});
  SeededSource source(42);
  std::vector<std::unique_ptr<Model>> ranks;
  ranks.push_back(architecture->make_model(source, {}));
  const SerialStep step = whole_step(random_requests(17, {40, 60}));
  const SerialResult result = run_step(ranks, step);
  EXPECT_NEAR(result.hidden.pow(2).mean().item<double>(), 1, 0.1);
  // Experts are not all the same, and choices are not ties.
  EXPECT_GT(result.margin(0).median().item<double>(), 1e-3);
  std::set<std::int64_t> used;
  for (const auto& ids : result.expert_ids) {
    const at::Tensor flat = ids.view({-1});
    used.insert(flat.const_data_ptr<std::int64_t>(),
                flat.const_data_ptr<std::int64_t>() + flat.numel());
  }
  EXPECT_EQ(used.size(), 16U);
}

}  // namespace
}  // namespace dovetail
