// Parity with transformers: the checkpoints of tests/fixtures, and what transformers computed with
// them in float32 (tests/fixtures/make_fixtures.py).
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/scratch_folder.hpp"
#include "tests/unit/models/fixture.hpp"
#include "tests/unit/models/serial_step.hpp"

namespace dovetail {
namespace {

constexpr double kTolerance = 1e-5;

using Names = std::vector<std::string>;

const Names kOfQwen3 = {"model.layers.1.self_attn.q_norm.weight",
                        "model.layers.0.self_attn.v_proj.weight",
                        "model.layers.1.mlp.gate.weight",
                        "model.norm.weight"};

/// The fixtures, and parameters of each, under their names in the checkpoint, that matter.
const std::map<std::string, Names> kFixtures = {
    {"qwen3-moe-tiny", kOfQwen3},
    {"odd-heads-stacked", kOfQwen3},
    {"tied-dense-sharded", kOfQwen3},
    {"all-experts-half", kOfQwen3},
    {"yarn-nested", kOfQwen3},
    {"mixtral-linear",
     {"model.layers.1.block_sparse_moe.gate.weight",
      "model.layers.2.block_sparse_moe.experts.2.w1.weight",
      "model.layers.0.block_sparse_moe.experts.1.w2.weight",
      "model.layers.1.block_sparse_moe.experts.0.w3.weight",
      "model.layers.0.self_attn.k_proj.weight"}},
    {"mixtral-yarn-stacked",
     {"model.embed_tokens.weight",
      "model.layers.1.mlp.gate.weight",
      "model.layers.0.mlp.experts.gate_up_proj",
      "model.layers.1.mlp.experts.down_proj",
      "model.layers.1.post_attention_layernorm.weight"}},
    {"qwen2-moe-llama3",
     {"model.layers.0.mlp.shared_expert.up_proj.weight",
      "model.layers.2.mlp.shared_expert_gate.weight",
      "model.layers.0.self_attn.q_proj.bias",
      "model.layers.1.self_attn.k_proj.bias",
      "model.layers.2.self_attn.v_proj.bias",
      "model.layers.1.mlp.down_proj.weight",
      "model.layers.2.mlp.experts.5.up_proj.weight"}},
    {"qwen2-moe-odd",
     {"model.layers.1.mlp.shared_expert_gate.weight",
      "model.layers.3.mlp.shared_expert.down_proj.weight",
      "model.layers.2.mlp.gate_proj.weight",
      "model.layers.3.self_attn.o_proj.weight",
      "model.layers.1.mlp.experts.down_proj"}},
    {"deepseek-v2-groups",
     {"model.layers.0.self_attn.q_a_proj.weight",
      "model.layers.0.self_attn.q_a_proj.bias",
      "model.layers.1.self_attn.q_a_layernorm.weight",
      "model.layers.2.self_attn.q_b_proj.weight",
      "model.layers.1.self_attn.kv_a_proj_with_mqa.weight",
      "model.layers.1.self_attn.kv_a_proj_with_mqa.bias",
      "model.layers.2.self_attn.kv_a_layernorm.weight",
      "model.layers.0.self_attn.kv_b_proj.weight",
      "model.layers.0.self_attn.o_proj.bias",
      "model.layers.0.mlp.up_proj.weight",
      "model.layers.1.mlp.shared_experts.down_proj.weight"}},
    {"deepseek-v2-lite",
     {"model.layers.1.self_attn.q_proj.weight",
      "model.layers.0.self_attn.kv_b_proj.weight",
      "model.layers.1.mlp.gate.weight"}},
    {"deepseek-v3-groups",
     {"model.layers.1.self_attn.q_a_layernorm.weight",
      "model.layers.2.self_attn.kv_b_proj.weight",
      "model.layers.2.mlp.shared_experts.gate_proj.weight"}},
    {"kimi-k2-tiny",
     {"model.layers.0.mlp.gate.weight",
      "model.layers.1.self_attn.q_b_proj.weight",
      "model.layers.0.self_attn.kv_a_proj_with_mqa.weight"}},
    {"glm4-moe-norms",
     {"model.layers.2.self_attn.q_norm.weight",
      "model.layers.1.self_attn.k_norm.weight",
      "model.layers.1.mlp.shared_experts.up_proj.weight"}},
    {"glm4-moe-biases",
     {"model.layers.1.self_attn.q_proj.bias",
      "model.layers.0.self_attn.v_proj.bias",
      "model.layers.1.mlp.gate.weight"}},
};

class Parity : public testing::TestWithParam<std::string> {};

TEST_P(Parity, HiddenAndLogitsAreThoseOfTransformers) {
  const Fixture fixture = load_fixture(GetParam());
  const SerialResult result =
      run_step(make_models(fixture, 1, at::kFloat), whole_step(fixture.requests));
  const double hidden = relative_error(result.hidden, fixture.hidden);
  const double logits = relative_error(result.logits, fixture.logits);
  std::printf("%s: hidden %.2e, logits %.2e\n", GetParam().c_str(), hidden, logits);
  EXPECT_LT(hidden, kTolerance);
  EXPECT_LT(logits, kTolerance);
}

TEST_P(Parity, CutInTwoUbatches) {
  const Fixture fixture = load_fixture(GetParam());
  SerialStep step = whole_step(fixture.requests);
  step.ubatch_ends.insert(step.ubatch_ends.begin(), step.ubatch_ends.back() / 2);
  const SerialResult result = run_step(make_models(fixture, 1, at::kFloat), step);
  EXPECT_LT(relative_error(result.logits, fixture.logits), kTolerance);
}

TEST_P(Parity, ReducedPrecisionIsClose) {
  const Fixture fixture = load_fixture(GetParam());
  const SerialStep whole = whole_step(fixture.requests);
  const SerialResult exact = run_step(make_models(fixture, 1, at::kFloat), whole);
  for (const auto& [dtype, bound] : {std::pair(at::kBFloat16, 0.06), std::pair(at::kHalf, 0.008)}) {
    // With the same experts, so that a choice that flips is not taken for noise.
    SerialStep step = whole;
    step.replay_ids = exact.expert_ids;
    const SerialResult result = run_step(make_models(fixture, 1, dtype), step);
    EXPECT_EQ(result.logits.scalar_type(), dtype);
    const double error = relative_error(result.logits, fixture.logits);
    std::printf("%s %s: %.1e\n", GetParam().c_str(), c10::toString(dtype), error);
    EXPECT_LT(error, bound);
    EXPECT_GT(error, 0);
    // Natural routing runs, too.
    const SerialResult natural = run_step(make_models(fixture, 1, dtype), whole);
    EXPECT_LT(relative_error(natural.logits, fixture.logits), 1.0);
  }
}

TEST_P(Parity, PerturbedWeightsAreSeen) {
  const Fixture fixture = load_fixture(GetParam());
  for (const std::string& name : kFixtures.at(GetParam())) {
    int read = 0;
    const auto ranks = make_models(fixture, 1, at::kFloat, [&](const WeightRequest& request) {
      if (request.name == name) {
        request.destination.view({-1})[0].add_(0.05);
        ++read;
      }
    });
    EXPECT_EQ(read, 1) << name;
    const SerialResult result = run_step(ranks, whole_step(fixture.requests));
    EXPECT_GT(relative_error(result.logits, fixture.logits), kTolerance) << name;
  }
}

std::vector<std::string> names_of_fixtures() {
  std::vector<std::string> names;
  names.reserve(kFixtures.size());
  for (const auto& [name, parameters] : kFixtures) {
    names.push_back(name);
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(Fixtures,
                         Parity,
                         testing::ValuesIn(names_of_fixtures()),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

/// The fixture with a config.json in which NAME.json replaces some keys.
class Variant {
 public:
  Variant(const std::string& fixture, const std::string& name)
      : fixture_(load_fixture(fixture, name)), original_(fixture_) {
    auto config = nlohmann::json::parse(std::ifstream(fixture_.folder + "/config.json"));
    config.update(nlohmann::json::parse(std::ifstream(fixture_.folder + "/" + name + ".json")));
    std::filesystem::copy(fixture_.folder + "/model.safetensors", folder_.path());
    std::ofstream(folder_.path() / "config.json") << config.dump();
    fixture_.folder = folder_.path();
  }

  /// Of logits, under its own config, or under the fixture's.
  double error(bool is_own) const {
    const Fixture& fixture = is_own ? fixture_ : original_;
    const SerialResult result =
        run_step(make_models(fixture, 1, at::kFloat), whole_step(fixture.requests));
    return relative_error(result.logits, fixture.logits);
  }

 private:
  ScratchFolder folder_;
  Fixture fixture_;
  Fixture original_;
};

/// rms_norm_eps is not that of latents' norms; rotary embeddings of a part of each head are scaled.
TEST(ParityVariants, AreThoseOfTransformers) {
  for (const auto& [fixture, name] : {std::pair("deepseek-v2-groups", "epsilon"),
                                      {"deepseek-v3-groups", "epsilon"},
                                      {"glm4-moe-norms", "yarn"},
                                      {"glm4-moe-biases", "linear"}}) {
    const Variant variant(fixture, name);
    EXPECT_LT(variant.error(true), kTolerance) << fixture << " " << name;
    EXPECT_GT(variant.error(false), 10 * kTolerance) << fixture << " " << name;
  }
}

/// As in transformers, the routers of some models round nothing in reduced precision.
TEST(ParityRouters, OfDeepseekAndGlmAreComputedInFloat32) {
  for (const auto& [name, is_float32] : {std::pair("deepseek-v2-groups", true),
                                         {"deepseek-v3-groups", true},
                                         {"kimi-k2-tiny", true},
                                         {"glm4-moe-biases", true},
                                         {"qwen2-moe-llama3", false},
                                         {"mixtral-linear", false}}) {
    const Fixture fixture = load_fixture(name);
    const auto models = make_models(fixture, 1, at::kBFloat16);
    const SerialResult result = run_step(models, whole_step(fixture.requests));
    const at::Tensor& logits = result.router_logits.back();
    EXPECT_EQ(logits.scalar_type(), is_float32 ? at::kFloat : at::kBFloat16) << name;
    EXPECT_EQ(models.front()->dims().router_dtype(), logits.scalar_type()) << name;
    const at::Tensor wide = logits.to(at::kFloat);
    EXPECT_EQ(at::equal(wide, wide.to(at::kBFloat16).to(at::kFloat)), !is_float32) << name;
  }
}

TEST(ParityNegative, SwappedTokensAreSeen) {
  const Fixture fixture = load_fixture("odd-heads-stacked");
  auto requests = fixture.requests;
  auto& request = requests.at(1);
  const auto other = std::find_if(
      request.begin() + 1, request.end(), [&](std::int64_t id) { return id != request.front(); });
  std::swap(request.front(), *other);
  const SerialResult result = run_step(make_models(fixture, 1, at::kFloat), whole_step(requests));
  EXPECT_GT(relative_error(result.logits, fixture.logits), 1e-2);
}

TEST(ParityNegative, AWrongExpertForOneTokenIsSeen) {
  const Fixture fixture = load_fixture("qwen3-moe-tiny");
  SerialStep step = whole_step(fixture.requests);
  step.after_route = [](int layer, UbatchState& state) {
    if (layer == 2) {
      auto* chosen = state.expert_ids.select(0, 5).mutable_data_ptr<std::int64_t>();
      const std::int64_t next = (chosen[0] + 1) % 8;
      chosen[0] = next == chosen[1] ? (next + 1) % 8 : next;
    }
  };
  const SerialResult result = run_step(make_models(fixture, 1, at::kFloat), step);
  EXPECT_GT(relative_error(result.logits, fixture.logits), 1e-3);
}

/// Biases move choices alone, so it takes one that moves some.
TEST(ParityNegative, WrongCorrectionBiasesAreSeen) {
  for (const char* name :
       {"deepseek-v3-groups", "kimi-k2-tiny", "glm4-moe-norms", "glm4-moe-biases"}) {
    const Fixture fixture = load_fixture(name);
    const auto ranks = make_models(fixture, 1, at::kFloat, [](const WeightRequest& request) {
      if (request.name == "model.layers.1.mlp.gate.e_score_correction_bias") {
        EXPECT_EQ(request.destination.scalar_type(), at::kFloat);
        request.destination[0].add_(0.5);
      }
    });
    const SerialResult result = run_step(ranks, whole_step(fixture.requests));
    EXPECT_GT(relative_error(result.logits, fixture.logits), 1e-2) << name;
  }
}

TEST(ParityNegative, RowsOfAnotherRequestAreSeen) {
  const Fixture fixture = load_fixture("tied-dense-sharded");
  auto requests = fixture.requests;
  std::swap(requests.at(2), requests.at(3));  // of equal length
  ASSERT_EQ(requests.at(2).size(), requests.at(3).size());
  const SerialResult result = run_step(make_models(fixture, 1, at::kFloat), whole_step(requests));
  EXPECT_GT(relative_error(result.logits, fixture.logits), 1e-2);
}

TEST(ParityRanks, ExpertsSpreadOverRanksGiveTheSame) {
  for (const std::string& name : names_of_fixtures()) {
    const Fixture fixture = load_fixture(name);
    const int num_experts = architecture_of(fixture)->dims().num_experts;
    for (int ep_size = 2; ep_size <= num_experts; ++ep_size) {
      if (num_experts % ep_size != 0) {
        continue;
      }
      const SerialResult result =
          run_step(make_models(fixture, ep_size, at::kFloat), whole_step(fixture.requests));
      EXPECT_LT(relative_error(result.logits, fixture.logits), kTolerance) << name << ep_size;
    }
  }
}

TEST(ParityRanks, DigestsAddUpToThoseOfOneRank) {
  for (const char* name : {"qwen3-moe-tiny",
                           "odd-heads-stacked",
                           "mixtral-yarn-stacked",
                           "qwen2-moe-llama3",
                           "glm4-moe-norms"}) {
    const Fixture fixture = load_fixture(name);
    const WeightsDigest whole = make_models(fixture, 1, at::kFloat).front()->weights_digest();
    WeightsDigest sum;
    for (const auto& rank : make_models(fixture, 2, at::kFloat)) {
      EXPECT_EQ(rank->weights_digest().replicated, whole.replicated);
      sum.experts += rank->weights_digest().experts;
    }
    EXPECT_EQ(sum.experts, whole.experts);
    const auto change = [](const std::string& part) {
      return [part](const WeightRequest& request) {
        if (request.name.find(part) != std::string::npos) {
          request.destination.view({-1})[0].add_(1e-3);
        }
      };
    };
    const auto digest_of = [&](const std::string& part) {
      return make_models(fixture, 1, at::kFloat, change(part)).front()->weights_digest();
    };
    EXPECT_NE(digest_of("k_proj").replicated, whole.replicated);
    EXPECT_EQ(digest_of("k_proj").experts, whole.experts);
    EXPECT_NE(digest_of("experts").experts, whole.experts);
  }
}

}  // namespace
}  // namespace dovetail
