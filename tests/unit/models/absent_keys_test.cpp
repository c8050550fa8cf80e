// What a config.json means that lacks a key, or has null under it: every key of the configuration
// classes of transformers 5.17 (tests/fixtures/config_defaults.json), for every architecture.
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/scratch_folder.hpp"
#include "models/deepseek_v2.hpp"
#include "models/deepseek_v3.hpp"
#include "models/glm4_moe.hpp"
#include "models/mixtral.hpp"
#include "models/qwen2_moe.hpp"
#include "models/qwen3_moe.hpp"

namespace dovetail {
namespace {

using Json = nlohmann::json;
using Names = std::set<std::string>;

Json rope_of(const RopeParameters& rope) {
  return {{"theta", rope.theta}, {"type", static_cast<int>(rope.type)}};
}

Json latent_of(const LatentAttentionDims& dims) {
  return {{"heads", dims.heads},
          {"qk_nope_head_dim", dims.qk_nope_head_dim},
          {"qk_rope_head_dim", dims.qk_rope_head_dim},
          {"v_head_dim", dims.v_head_dim},
          {"kv_lora_rank", dims.kv_lora_rank},
          {"q_lora_rank", dims.q_lora_rank},
          {"rotates_pairs", dims.rotates_pairs},
          {"norm_epsilon", dims.norm_epsilon},
          {"softmax_scale", dims.softmax_scale}};
}

Json router_of(const RouterRule& rule) {
  return {{"top_k", rule.top_k},
          {"normalize", rule.normalize},
          {"scale", rule.scale},
          {"score", static_cast<int>(rule.score)},
          {"num_groups", rule.groups.num_groups},
          {"num_chosen", rule.groups.num_chosen},
          {"group_score", static_cast<int>(rule.groups.score)}};
}

/// All that a config says, so that two can be compared.
Json contents(const MoeDecoderConfig& config) {
  bool has_dense_layer = false;
  for (const bool is_moe : config.is_moe_layer) {
    has_dense_layer = has_dense_layer || !is_moe;
  }
  return {{"vocab_size", config.vocab_size},
          {"hidden_size", config.hidden_size},
          {"intermediate_size", has_dense_layer ? config.intermediate_size : 0},
          {"num_hidden_layers", config.num_hidden_layers},
          {"num_attention_heads", config.num_attention_heads},
          {"num_key_value_heads", config.num_key_value_heads},
          {"head_dim", config.head_dim},
          {"turned_dim", config.turned_dim()},
          {"latent", config.latent ? latent_of(*config.latent) : Json()},
          {"num_experts", config.num_experts},
          {"moe_intermediate_size", config.moe_intermediate_size},
          {"shared_intermediate_size", config.shared_intermediate_size},
          {"router", router_of(config.router)},
          {"has_router_bias", config.has_router_bias},
          {"qkv_bias", config.qkv_bias},
          {"output_bias", config.output_bias},
          {"has_qk_norm", config.has_qk_norm},
          {"tie_word_embeddings", config.tie_word_embeddings},
          {"rms_norm_eps", config.rms_norm_eps},
          {"rope", rope_of(config.rope)},
          {"is_moe_layer", config.is_moe_layer}};
}

struct ArchitectureCase {
  std::function<MoeDecoderConfig(const std::string& path)> read;
  Json more;      ///< beside the defaults of the class, which alone make no model
  Names refused;  ///< keys that must be there
  /// What null means, of the keys for which the class takes it and which matter: another value, or
  /// nothing at all = it is refused, because transformers fails later.
  std::map<std::string, std::optional<Json>> nulls;
};

const Names kSizes = {"vocab_size",
                      "hidden_size",
                      "num_hidden_layers",
                      "num_attention_heads",
                      "num_experts_per_tok",
                      "rms_norm_eps",
                      "rope_parameters"};

Names sizes_and(Names more) {
  more.insert(kSizes.begin(), kSizes.end());
  return more;
}

const std::map<std::string, ArchitectureCase> kCases = {
    {"qwen3_moe",
     {read_qwen3_moe_config,
      {{"intermediate_size", 6144}},
      sizes_and({"num_key_value_heads", "num_experts", "moe_intermediate_size", "norm_topk_prob"}),
      {{"mlp_only_layers", Json::array()}}}},
    {"qwen2_moe",
     {read_qwen2_moe_config,
      Json::object(),
      sizes_and({"num_key_value_heads",
                 "num_experts",
                 "moe_intermediate_size",
                 "shared_expert_intermediate_size"}),
      {{"mlp_only_layers", Json::array()},
       {"num_key_value_heads", std::nullopt},
       {"layer_types", Json(std::vector<std::string>(24, "full_attention"))}}}},
    {"mixtral",
     {read_mixtral_config,
      Json::object(),
      sizes_and({"num_key_value_heads", "num_local_experts", "intermediate_size"}),
      {{"head_dim", 128}}}},
    {"glm4_moe",
     {read_glm4_moe_config,
      {{"head_dim", 128}},
      sizes_and({"num_key_value_heads",
                 "n_routed_experts",
                 "moe_intermediate_size",
                 "intermediate_size"}),
      {}}},
    {"deepseek_v2",
     {read_deepseek_v2_config,
      {{"num_experts_per_tok", 6}, {"first_k_dense_replace", 0}},
      sizes_and({"n_routed_experts",
                 "moe_intermediate_size",
                 "kv_lora_rank",
                 "qk_nope_head_dim",
                 "qk_rope_head_dim",
                 "v_head_dim"}),
      {{"num_key_value_heads", 32},
       {"head_dim", 64},
       {"q_lora_rank", std::nullopt},
       {"n_group", 1},
       {"topk_group", 1},
       {"topk_method", std::nullopt},
       {"norm_topk_prob", false},
       {"num_experts_per_tok", std::nullopt}}}},
    {"deepseek_v3",
     {read_deepseek_v3_config,
      Json::object(),
      sizes_and({"n_routed_experts",
                 "moe_intermediate_size",
                 "intermediate_size",
                 "kv_lora_rank",
                 "qk_nope_head_dim",
                 "qk_rope_head_dim",
                 "v_head_dim"}),
      {{"num_key_value_heads", 128},
       {"q_lora_rank", std::nullopt},
       {"n_group", std::nullopt},
       {"topk_group", std::nullopt},
       {"first_k_dense_replace", std::nullopt},
       {"v_head_dim", std::nullopt},
       {"num_experts_per_tok", std::nullopt},
       {"norm_topk_prob", false},
       {"rope_interleave", false}}}},
};

/// Of training, generation and tokens, and sizes of what other keys switch on.
const Names kSayNothing = {"attention_dropout",
                           "bos_token_id",
                           "eos_token_id",
                           "initializer_range",
                           "max_position_embeddings",
                           "max_window_layers",
                           "num_mtp_layers",
                           "output_router_logits",
                           "pad_token_id",
                           "pretraining_tp",
                           "router_aux_loss_coef",
                           "router_jitter_noise",
                           "use_cache"};

/// Contents of the file, or what is wrong with it.
struct Outcome {
  Json contents;
  std::string message;
};

Outcome outcome_of(const ArchitectureCase& each, const Json& file) {
  const ScratchFolder folder;
  const std::string path = (folder.path() / "config.json").string();
  std::ofstream(path) << file.dump();
  try {
    return {contents(each.read(path)), ""};
  } catch (const InputError& error) {
    return {Json(), error.what()};
  }
}

const Json& defaults_of(const std::string& architecture) {
  static const Json all =
      Json::parse(std::ifstream(DOVETAIL_SOURCE_DIR "/tests/fixtures/config_defaults.json"));
  return all.at(architecture);
}

/// A file that states every default, and what is no default.
Json full_file(const std::string& architecture) {
  Json file = kCases.at(architecture).more;
  for (const auto& [key, value] : defaults_of(architecture).items()) {
    if (!value.at(0).is_null() && !file.contains(key)) {
      file[key] = value.at(0);
    }
  }
  file["model_type"] = architecture;
  file["rope_parameters"] = {{"rope_theta", 10000.0}, {"rope_type", "default"}};
  return file;
}

Json another(const Json& value) {
  if (value.is_boolean()) {
    return !value.get<bool>();
  }
  if (value.is_number_integer()) {
    return value.get<std::int64_t>() + 1;
  }
  return value.is_number() ? Json(value.get<double>() * 2) : Json("another");
}

/// The name in messages of keys that have several.
std::string spelled(const std::string& key) {
  return key == "rope_parameters" ? "rope_theta" : key == "num_local_experts" ? "num_experts" : key;
}

class AbsentKeys : public testing::TestWithParam<std::string> {};

TEST_P(AbsentKeys, TakeTheDefaultOfTransformersOrAreRefused) {
  const ArchitectureCase& each = kCases.at(GetParam());
  const Json full = full_file(GetParam());
  const Outcome whole = outcome_of(each, full);
  ASSERT_EQ(whole.message, "");
  int num_taken = 0;
  for (const auto& [key, value] : defaults_of(GetParam()).items()) {
    Json file = full;
    file.erase(key);
    const Outcome outcome = outcome_of(each, file);
    if (each.refused.contains(key)) {
      EXPECT_NE(outcome.message.find("key '" + spelled(key) + "' is missing"), std::string::npos)
          << key << ": " << outcome.message;
    } else {
      EXPECT_EQ(outcome.message, "") << key;
      EXPECT_EQ(outcome.contents, whole.contents) << key;
      ++num_taken;
    }
  }
  EXPECT_GE(num_taken, 10);
}

/// The twin: what is compared depends on every key that says something.
TEST_P(AbsentKeys, OtherValuesAreOtherModelsOrRefused) {
  const ArchitectureCase& each = kCases.at(GetParam());
  const Json full = full_file(GetParam());
  const Outcome whole = outcome_of(each, full);
  // Sizes of windows and of dense layers that these files do not have.
  const Names unused = {"sliding_window", "intermediate_size"};
  for (const auto& [key, value] : full.items()) {
    if (key == "model_type" || kSayNothing.contains(key)) {
      continue;
    }
    Json file = full;
    file[key] = another(value);
    const Outcome outcome = outcome_of(each, file);
    if (outcome.message.empty() && outcome.contents == whole.contents) {
      EXPECT_TRUE(unused.contains(key)) << key;
    }
  }
}

TEST_P(AbsentKeys, NullIsWhatTransformersTakesItFor) {
  const ArchitectureCase& each = kCases.at(GetParam());
  const Json full = full_file(GetParam());
  // Built in one way only; windows and rotary embeddings are objects of their own.
  const Names elsewhere = {"mlp_bias", "rope_parameters", "sliding_window", "intermediate_size"};
  for (const auto& [key, value] : defaults_of(GetParam()).items()) {
    if (kSayNothing.contains(key) || elsewhere.contains(key)) {
      continue;
    }
    Json file = full;
    file[key] = nullptr;
    const Outcome outcome = outcome_of(each, file);
    const bool is_taken = value.at(1).get<bool>();
    ASSERT_EQ(is_taken, each.nulls.contains(key)) << key;
    if (key == "q_lora_rank") {
      EXPECT_EQ(outcome.contents.at("latent").at("q_lora_rank"), 0);
    } else if (!is_taken || !each.nulls.at(key)) {
      EXPECT_NE(outcome.message.find("key '" + spelled(key) + "' is "), std::string::npos)
          << key << ": " << outcome.message;
    } else {
      file[key] = *each.nulls.at(key);
      const Outcome same = outcome_of(each, file);
      EXPECT_EQ(same.message, "") << key;
      EXPECT_EQ(outcome.message, "") << key;
      EXPECT_EQ(outcome.contents, same.contents) << key;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Architectures,
    AbsentKeys,
    testing::Values("qwen3_moe", "qwen2_moe", "mixtral", "glm4_moe", "deepseek_v2", "deepseek_v3"),
    [](const auto& test) { return test.param; });

/// Half of a head turns where a file of GLM-4.5 says nothing; null means neither half nor whole.
TEST(AbsentKeys, TheTurningPartOfAHead) {
  const ArchitectureCase& glm = kCases.at("glm4_moe");
  Json file = full_file("glm4_moe");
  EXPECT_EQ(outcome_of(glm, file).contents.at("turned_dim"), 64);
  file["partial_rotary_factor"] = nullptr;
  EXPECT_NE(outcome_of(glm, file).message.find("'partial_rotary_factor' is null"),
            std::string::npos);
}

/// Routing within groups has no default number of them.
TEST(AbsentKeys, GroupsOfDeepseekV2) {
  const ArchitectureCase& v2 = kCases.at("deepseek_v2");
  Json file = full_file("deepseek_v2");
  file["topk_method"] = "group_limited_greedy";
  EXPECT_NE(outcome_of(v2, file).message.find("'n_group' is missing"), std::string::npos);
  file["n_group"] = 8;
  EXPECT_NE(outcome_of(v2, file).message.find("'topk_group' is missing"), std::string::npos);
  file["topk_group"] = 2;
  EXPECT_EQ(outcome_of(v2, file).contents.at("router").at("num_chosen"), 2);
}

}  // namespace
}  // namespace dovetail
