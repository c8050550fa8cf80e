// Ranges of layers: two stages one after the other are the whole model, to the bit; and embeddings
// instead of ids.
#include <algorithm>
#include <fstream>
#include <set>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/isnan.h>
#include <ATen/ops/roll.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/scratch_folder.hpp"
#include "models/qwen3_moe.hpp"
#include "models/registry.hpp"
#include "models/weights/digest.hpp"
#include "models/weights/seeded.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/models/memory_source.hpp"
#include "tests/unit/models/serial_step.hpp"
#include "tests/unit/models/small_model.hpp"

namespace dovetail {
namespace {

const char* const kTinyConfig = DOVETAIL_SOURCE_DIR "/models/configs/qwen3-moe-tiny.json";
constexpr int kLayers = 3;

MoeDecoderConfig stage_of(MoeDecoderConfig config, int first, int last) {
  config.layers = LayerRange{.first = first, .last = last};
  return config;
}

MoeDecoderConfig config_of(bool tied) {
  MoeDecoderConfig config = small_config();
  config.tie_word_embeddings = tied;
  config.qkv_bias = tied;
  config.output_bias = tied;
  return config;
}

/// A step over a seeded random context: what the whole model, or one of its stages, gives.
SerialResult run_with_context(const std::vector<std::unique_ptr<Model>>& ranks,
                              SerialStep step,
                              const at::Tensor& embeds) {
  const Model& model = *ranks.front();
  step.context_lengths = {13, 0, 4};
  step.embeds = embeds;
  SerialCache cache = make_serial_cache(model, {30, 7, 9}, 4);
  fill_context_random(cache.cache, workload_of(step), cache.pages, model.dims(), 99);
  return run_step(ranks, step, cache);
}

TEST(Stages, OneAfterTheOtherAreTheWholeToTheBit) {
  const SerialStep step = whole_step(random_requests(1, {17, 7, 5}));
  for (const bool tied : {false, true}) {
    SeededSource source(5);
    const auto whole = make_ranks(config_of(tied), source);
    const SerialResult expected = run_with_context(whole, step, {});
    EXPECT_FALSE(expected.logits.isnan().any().item<bool>());
    for (const auto& cuts : {std::vector<int>{0, 1, 3}, {0, 2, 3}, {0, 1, 2, 3}}) {
      SerialResult result;
      std::vector<at::Tensor> expert_ids;
      for (std::size_t stage = 0; stage + 1 < cuts.size(); ++stage) {
        const auto ranks =
            make_ranks(stage_of(config_of(tied), cuts[stage], cuts[stage + 1]), source, 2);
        EXPECT_EQ(ranks.front()->dims().first_layer, cuts[stage]);
        EXPECT_EQ(ranks.front()->shape().num_layers(), cuts[stage + 1] - cuts[stage]);
        EXPECT_EQ(ranks.front()->dims().is_first_stage, stage == 0);
        EXPECT_EQ(ranks.front()->dims().is_last_stage, stage + 2 == cuts.size());
        result = run_with_context(ranks, step, result.hidden);
        expert_ids.insert(expert_ids.end(), result.expert_ids.begin(), result.expert_ids.end());
        EXPECT_EQ(result.logits.defined(), stage + 2 == cuts.size());
      }
      // The whole runs on as many ranks, as the order of summation depends on the grid.
      const SerialResult same_grid =
          run_with_context(make_ranks(config_of(tied), source, 2), step, {});
      EXPECT_TRUE(at::equal(result.hidden, same_grid.hidden));
      EXPECT_TRUE(at::equal(result.logits, same_grid.logits));
      ASSERT_EQ(expert_ids.size(), 3U);
      EXPECT_TRUE(at::equal(expert_ids[0], same_grid.expert_ids[0]));
      EXPECT_TRUE(at::equal(expert_ids[2], same_grid.expert_ids[2]));
    }
  }
}

TEST(Stages, OtherLayersAndUnreadContextsAreSeen) {
  SeededSource source(5);
  const SerialStep step = whole_step(random_requests(1, {17, 7, 5}));
  const SerialResult whole = run_with_context(make_ranks(small_config(), source), step, {});
  const auto stage = [&](int first, int last) {
    return make_ranks(stage_of(small_config(), first, last), source);
  };
  const at::Tensor middle = run_with_context(stage(0, 1), step, {}).hidden;
  // The layer between is left out.
  EXPECT_GT(relative_error(run_with_context(stage(2, 3), step, middle).logits, whole.logits), 1e-2);
  // A stage's context is that of its own layers.
  auto last = stage(1, 3);
  SerialStep wrong = step;
  wrong.context_lengths = {13, 0, 4};
  wrong.embeds = middle;
  SerialCache cache = make_serial_cache(*last.front(), {30, 7, 9}, 4);
  fill_context_random(cache.cache,
                      workload_of(wrong),
                      cache.pages,
                      make_ranks(small_config(), source).front()->dims(),
                      99);
  EXPECT_GT(relative_error(run_step(last, wrong, cache).logits, whole.logits), 1e-3);
}

TEST(Stages, WeightsAreReadOnceAndAddUp) {
  for (const bool tied : {false, true}) {
    MemorySource all(13);
    const MoeDecoderArchitecture architecture(config_of(tied));
    const auto whole = architecture.make_model(all, {});
    WeightsDigest digest;
    std::multiset<std::string> names;
    std::int64_t bytes = 0;
    double flops_per_token = 0;
    double flops_per_key = 0;
    for (int layer = 0; layer < kLayers; ++layer) {
      MemorySource source(13);
      const MoeDecoderArchitecture stage(stage_of(config_of(tied), layer, layer + 1));
      const auto model = stage.make_model(source, {});
      std::int64_t estimate = 0;
      for (const MemoryPart& part : stage.weight_memory({})) {
        estimate += part.bytes;
      }
      EXPECT_EQ(estimate, source.storage_bytes());
      EXPECT_EQ(estimate, source.bytes_written());
      EXPECT_EQ(estimate, model->weight_bytes());
      bytes += estimate;
      names.insert(source.names_read().begin(), source.names_read().end());
      for (const std::string& name : source.names_read()) {
        const auto number = name.find("layers.");
        EXPECT_TRUE(number == std::string::npos ||
                    name.substr(number + 7, 2) == std::to_string(layer) + ".")
            << name;
      }
      digest.replicated += model->weights_digest().replicated;
      digest.experts += model->weights_digest().experts;
      flops_per_token += stage.dims().token_flops.sum();
      flops_per_key += stage.dims().flops_per_key;
    }
    // The tied embedding is read again, as the last stage's lm_head.
    const at::Tensor embedding = all.at("model.embed_tokens.weight");
    std::multiset<std::string> expected(all.names_read().begin(), all.names_read().end());
    if (tied) {
      expected.insert("model.embed_tokens.weight");
      digest.replicated -= parameter_digest("model.embed_tokens.weight", embedding);
    }
    EXPECT_EQ(digest.replicated, whole->weights_digest().replicated);
    EXPECT_EQ(names, expected);
    EXPECT_EQ(bytes,
              whole->weight_bytes() + (tied ? static_cast<std::int64_t>(embedding.nbytes()) : 0));
    EXPECT_EQ(digest.experts, whole->weights_digest().experts);
    EXPECT_DOUBLE_EQ(flops_per_token, architecture.dims().token_flops.sum());
    EXPECT_DOUBLE_EQ(flops_per_key, architecture.dims().flops_per_key);
  }
}

TEST(Stages, FlopsAreTwiceTheParametersOfATokenAndFourTimesTheHeads) {
  const MoeDecoderConfig config = small_config();  // H 48, 6 query and 2 kv heads of 12
  const double attention = 48 * 12 * (6 + 2 + 2 + 6);
  const double moe = 48 * 8 + 3 * 48 * 24 * (3 + 2);  // router, 3 of 8 experts, 2 shared
  const double dense = 3 * 48 * 40;
  const ModelDims dims = MoeDecoderArchitecture(config).dims();
  EXPECT_DOUBLE_EQ(dims.token_flops.sum(), 2 * (3 * attention + 2 * moe + dense));
  EXPECT_DOUBLE_EQ(dims.flops_per_key, 3 * 6 * (2 * 12 + 2 * 12));
  const ModelDims middle = MoeDecoderArchitecture(stage_of(config, 1, 2)).dims();
  EXPECT_DOUBLE_EQ(middle.token_flops.sum(), 2 * (attention + dense));
}

TEST(Stages, FlopsOfAGateAreThoseOfItsRow) {
  MoeDecoderConfig config = small_config();
  const double without = MoeDecoderArchitecture(config).dims().token_flops.sum();
  config.has_shared_expert_gate = true;
  EXPECT_DOUBLE_EQ(MoeDecoderArchitecture(config).dims().token_flops.sum(), without + 2 * 2 * 48);
}

TEST(Stages, LayersOutsideOfTheModelAreRefused) {
  const auto error_of = [](int first, int last) {
    return testing::input_error_of([&] {
      make_qwen3_moe({"qwen3_moe", kTinyConfig, {}, LayerRange{.first = first, .last = last}});
    });
  };
  EXPECT_EQ(error_of(0, 4), "");
  EXPECT_EQ(error_of(3, 4), "");
  for (const auto& [first, last] : {std::pair(0, 5), {4, 5}, {-1, 2}, {2, 2}, {3, 1}}) {
    const std::string message = error_of(first, last);
    EXPECT_NE(message.find("[" + std::to_string(first) + ", " + std::to_string(last) + "]"),
              std::string::npos)
        << message;
    EXPECT_NE(message.find("4 layers; allowed: [first, last) with 0 <= first < last <= 4"),
              std::string::npos)
        << message;
    EXPECT_NE(message.find(kTinyConfig), std::string::npos) << message;
  }
}

/// Of the tiny model with so many layers in its config.json.
std::string write_cut_config(const ScratchFolder& folder, int num_layers) {
  std::ifstream file(kTinyConfig);
  auto config = nlohmann::json::parse(file);
  config["num_hidden_layers"] = num_layers;
  auto path = (folder.path() / "config.json").string();
  std::ofstream(path) << config;
  return path;
}

TEST(FirstLayers, AreThoseOfAConfigWithNoMoreToTheBit) {
  const ScratchFolder folder;
  const SerialStep step = whole_step(random_requests(1, {17, 7, 5}));
  const auto run = [&](const std::string& config, const LayersConfig& layers) {
    const auto architecture = make_qwen3_moe({"qwen3_moe", config, {}, layers});
    SeededSource source(5);
    std::vector<std::unique_ptr<Model>> ranks;
    ranks.push_back(architecture->make_model(source, {}));
    const auto result = run_with_context(ranks, step, {});
    return std::tuple(result.hidden, result.logits, ranks.front()->weights_digest().replicated);
  };
  const auto [hidden, logits, digest] = run(kTinyConfig, FirstLayers{2});
  const auto [by_hand, logits_by_hand, digest_by_hand] = run(write_cut_config(folder, 2), {});
  EXPECT_TRUE(at::equal(hidden, by_hand));
  EXPECT_TRUE(at::equal(logits, logits_by_hand));
  EXPECT_EQ(digest, digest_by_hand);
  const auto [whole, whole_logits, whole_digest] = run(kTinyConfig, {});
  EXPECT_FALSE(at::equal(logits, whole_logits)) << "the twin: of all four layers";
  EXPECT_TRUE(at::equal(std::get<1>(run(kTinyConfig, FirstLayers{4})), whole_logits));
}

TEST(FirstLayers, AreAWholeModel) {
  const auto architecture = make_qwen3_moe({"qwen3_moe", kTinyConfig, {}, FirstLayers{2}});
  EXPECT_EQ(architecture->shape().num_layers(), 2);
  EXPECT_TRUE(architecture->dims().is_first_stage);
  EXPECT_TRUE(architecture->dims().is_last_stage);
  // Three dense layers come first.
  const auto v3 = architectures().at("deepseek_v3")(
      {"deepseek_v3", DOVETAIL_SOURCE_DIR "/models/configs/deepseek-v3.json", {}, FirstLayers{4}});
  ASSERT_EQ(v3->shape().num_layers(), 4);
  EXPECT_FALSE(v3->shape().layers[2].is_moe);
  EXPECT_TRUE(v3->shape().layers[3].is_moe);
}

TEST(FirstLayers, MoreThanThereAreAreRefused) {
  for (const int count : {0, 5}) {
    const auto message = testing::input_error_of([&] {
      make_qwen3_moe({"qwen3_moe", kTinyConfig, {}, FirstLayers{count}});
    });
    EXPECT_NE(message.find("model.layers is " + std::to_string(count)), std::string::npos);
    EXPECT_NE(message.find("has 4 layers; allowed: 1 to 4, or all"), std::string::npos) << message;
  }
}

TEST(Stages, PhasesThatAStageLacksAreRefused) {
  SeededSource source(5);
  const auto ranks = make_ranks(stage_of(small_config(), 1, 2), source);
  const SerialStep step = whole_step(random_requests(1, {4}));
  EXPECT_THROW(run_step(ranks, step), ContractError);  // ids in a stage behind another
  EXPECT_THROW(ranks.front()->logits(at::zeros({1, 48})), ContractError);
  UbatchState state;
  EXPECT_THROW(ranks.front()->mlp(1, state), std::out_of_range);  // layers count within the stage
}

TEST(Embeds, RowsOfTheEmbeddingTableAreTheIdsToTheBit) {
  MemorySource source(2);
  const auto ranks = make_ranks(small_config(), source);
  const auto requests = random_requests(3, {9, 1, 14});
  SerialStep step = whole_step(requests);
  step.ubatch_ends = {5, 24};
  const SerialResult by_ids = run_step(ranks, step);
  std::vector<std::int64_t> ids;
  for (auto& request : step.requests) {
    ids.insert(ids.end(), request.begin(), request.end());
    std::fill(request.begin(), request.end(), 0);  // not looked at
  }
  step.embeds =
      at::index_select(source.at("model.embed_tokens.weight"), 0, at::tensor(ids, at::kLong));
  const at::Tensor before = step.embeds.clone();
  const SerialResult by_embeds = run_step(ranks, step);
  EXPECT_TRUE(at::equal(by_embeds.logits, by_ids.logits));
  EXPECT_TRUE(at::equal(by_embeds.hidden, by_ids.hidden));
  EXPECT_TRUE(at::equal(step.embeds, before));  // inputs are not written to
  // Padding rows, and an embedding that is another token's.
  step.padding = 2;
  EXPECT_LT(relative_error(run_step(ranks, step).logits, by_ids.logits), 2e-6);
  step.embeds = before.roll(1, 0);
  EXPECT_GT(relative_error(run_step(ranks, step).logits, by_ids.logits), 1e-2);
}

TEST(Embeds, OfAnotherShapeOrTypeAreRefused) {
  MemorySource source(2);
  const auto ranks = make_ranks(small_config(), source);
  SerialStep step = whole_step(random_requests(3, {4}));
  for (const at::Tensor& embeds :
       {at::zeros({4, 47}), at::zeros({4, 48}, at::kDouble), at::zeros({5, 48})}) {
    step.embeds = embeds;
    EXPECT_THROW(run_step(ranks, step), ContractError);
  }
}

}  // namespace
}  // namespace dovetail
