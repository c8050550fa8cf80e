// config.json: what transformers 4 and 5 write is read alike, of each architecture what its files
// have.
#include <array>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "models/mixtral.hpp"
#include "models/qwen2_moe.hpp"
#include "models/qwen3_moe.hpp"
#include "models/registry.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/models/config_file.hpp"

namespace dovetail {
namespace {

using testing::BadValue;
using testing::ConfigFile;
using testing::error_of_text;
using testing::Json;
using testing::kGood;
using testing::read;
using testing::with;

TEST(Qwen3MoeConfig, SpellingsOfBothGenerations) {
  Json newer = kGood;
  newer.erase("rope_theta");
  newer.erase("rope_scaling");
  newer.erase("num_experts");
  newer["rope_parameters"] = {{"rope_theta", 10000.0}, {"rope_type", "default"}};
  newer["num_local_experts"] = 8;
  for (const Json& values : {kGood, newer}) {
    const MoeDecoderConfig config = read(values);
    EXPECT_EQ(config.rope.theta, 10000.0);
    EXPECT_EQ(config.num_experts, 8);
    EXPECT_EQ(config.head_dim, 10);
    EXPECT_FALSE(config.qkv_bias);
    EXPECT_FALSE(config.output_bias);
    EXPECT_TRUE(config.has_qk_norm);
    EXPECT_FALSE(config.tie_word_embeddings);
    EXPECT_EQ(config.shared_intermediate_size, 0);
    EXPECT_EQ(config.rope.mrope.section, (std::array<std::int64_t, 3>{1, 2, 2}));
  }
  Json older = kGood;
  older["rope_scaling"] = {{"type", "default"}, {"mrope_section", {3, 1, 1}}};
  EXPECT_EQ(read(older).rope.mrope.section, (std::array<std::int64_t, 3>{3, 1, 1}));
  EXPECT_FALSE(read(older).rope.mrope.interleaved);
  older["rope_scaling"] = {
      {"rope_type", "default"}, {"mrope_section", {2, 2, 1}}, {"mrope_interleaved", true}};
  EXPECT_EQ(read(older).rope.mrope.section, (std::array<std::int64_t, 3>{2, 2, 1}));
  EXPECT_TRUE(read(older).rope.mrope.interleaved);
}

/// As published models and transformers write it: none of it changes what is computed here.
TEST(Qwen3MoeConfig, SpellingsOfQuantization) {
  for (const char* const more :
       {"",
        R"(, "scale_fmt": "ue8m0")",
        R"(, "scale_fmt": "float", "dequantize": false)",
        R"(, "dequantize": true, "ignored_layers": ["lm_head"])",
        R"(, "modules_to_not_convert": null, "modules_to_convert": null)",
        R"(, "fmt": "e4m3", "activation_scheme": "dynamic", "modules_to_not_convert": ["gate"])"}) {
    const std::string quantization =
        R"({"quant_method": "fp8", "weight_block_size": [128, 128])" + std::string(more) + "}";
    EXPECT_NO_THROW(read(with({"quantization_config", quantization, ""}))) << more;
  }
}

TEST(Qwen3MoeConfig, SpellingsOfRotaryScaling) {
  const auto rope_of = [](const char* key, const char* object) {
    return read(with({key, object, ""})).rope;
  };
  const char* const yarn = R"({"rope_type": "yarn", "factor": 4, "beta_fast": 16, "beta_slow": 0,
                               "original_max_position_embeddings": 1024, "truncate": false})";
  const std::string nested = R"({"full_attention": )" + std::string(yarn) + "}";
  for (const char* const object : {yarn, nested.c_str()}) {
    for (const char* const key : {"rope_scaling", "rope_parameters"}) {
      const RopeParameters rope = rope_of(key, object);
      EXPECT_EQ(rope.type, RopeType::yarn);
      EXPECT_EQ(rope.theta, 10000);
      EXPECT_EQ(rope.factor, 4);
      EXPECT_EQ(rope.beta_fast, 16);
      EXPECT_EQ(rope.beta_slow, 1) << "0 is the default";
      EXPECT_EQ(rope.original_max_position_embeddings, 1024);
      EXPECT_FALSE(rope.attention_factor.has_value());
      EXPECT_FALSE(rope.truncate);
    }
  }
  const RopeParameters inferred =
      rope_of("rope_scaling", R"({"type": "yarn", "original_max_position_embeddings": 512})");
  EXPECT_EQ(inferred.factor, 8) << "max_position_embeddings over the original one";
  EXPECT_EQ(
      rope_of("rope_scaling", R"({"type": "yarn", "factor": 2})").original_max_position_embeddings,
      4096);
  Json beside = with({"rope_scaling", R"({"type": "yarn", "factor": 2})", ""});
  beside["original_max_position_embeddings"] = 99;
  EXPECT_EQ(read(beside).rope.original_max_position_embeddings, 99);
  EXPECT_EQ(rope_of("rope_scaling", R"({"type": "linear", "factor": 3})").type, RopeType::linear);
  const RopeParameters dynamic = rope_of("rope_scaling", R"({"type": "dynamic", "factor": 3})");
  EXPECT_EQ(dynamic.type, RopeType::dynamic);
  EXPECT_EQ(dynamic.max_position_embeddings, 4096);
  const RopeParameters mrope = rope_of(
      "rope_scaling", R"({"type": "mrope", "rope_type": "default", "mrope_section": [3, 1, 1]})");
  EXPECT_EQ(mrope.type, RopeType::standard);
  EXPECT_EQ(mrope.mrope.section, (std::array<std::int64_t, 3>{3, 1, 1}));
  for (const char* const empty : {"{}", "null"}) {
    EXPECT_EQ(rope_of("rope_scaling", empty).type, RopeType::standard);
  }
  Json both = with({"rope_scaling", yarn, ""});
  both["rope_parameters"] = both["rope_scaling"];
  EXPECT_EQ(read(both).rope.type, RopeType::yarn);
  both["rope_parameters"]["factor"] = 8;
  EXPECT_NE(error_of_text(both.dump()).find("key 'rope_parameters' differs"), std::string::npos);
}

TEST(Qwen3MoeConfig, WhatNobodyReadsDoesNotMatter) {
  Json values = kGood;
  values["router_aux_loss_coef"] = 0.5;
  values["_name_or_path"] = "somewhere";
  values["a_key_of_tomorrow"] = nullptr;
  values["original_max_position_embeddings"] = 7;
  values["qkv_bias"] = false;
  values["moe_layer_freq"] = 1;
  values["pruned_heads"] = Json::object();
  EXPECT_NO_THROW(read(values));
  std::string text = values.dump();
  text.insert(1, R"("initializer_range": Infinity, "_note": [NaN, -Infinity], )");
  EXPECT_NO_THROW(read_qwen3_moe_config(ConfigFile(text).path()));
  values.erase("rms_norm_eps");
  text = values.dump();
  text.insert(1, R"("rms_norm_eps": Infinity, )");
  EXPECT_NE(error_of_text(text).find("key 'rms_norm_eps' is \"Infinity\""), std::string::npos);
}

TEST(Qwen3MoeConfig, DenseLayersAsInTransformers) {
  Json values = kGood;
  values["num_hidden_layers"] = 7;
  values["decoder_sparse_step"] = 3;
  values["mlp_only_layers"] = {5, 0};
  // MoE where (index + 1) % 3 == 0, which are 2 and 5, but 5 is listed.
  EXPECT_EQ(read(values).is_moe_layer,
            (std::vector<bool>{false, false, true, false, false, false, false}));
  // A file that was cut to fewer layers still lists those that it left out.
  values["num_hidden_layers"] = 3;
  EXPECT_EQ(read(values).is_moe_layer, (std::vector<bool>{false, false, true}));
}

Json mixtral_file() {
  Json values = kGood;
  values["model_type"] = "mixtral";
  for (const char* const key : {"num_experts",
                                "moe_intermediate_size",
                                "norm_topk_prob",
                                "mlp_only_layers",
                                "decoder_sparse_step",
                                "use_sliding_window"}) {
    values.erase(key);
  }
  values["num_local_experts"] = 8;
  values["router_jitter_noise"] = 0.1;
  return values;
}

TEST(MixtralConfig, ReadsWhatItsFilesHave) {
  const auto read_file = [](const Json& values) {
    return read_mixtral_config(ConfigFile(values.dump()).path());
  };
  const MoeDecoderConfig config = read_file(mixtral_file());
  EXPECT_EQ(config.num_experts, 8);
  EXPECT_EQ(config.moe_intermediate_size, 64) << "the key is intermediate_size";
  EXPECT_EQ(config.is_moe_layer, std::vector<bool>(4, true));
  EXPECT_TRUE(config.router.normalize);
  EXPECT_FALSE(config.has_qk_norm || config.qkv_bias || config.output_bias);
  EXPECT_EQ(config.older_name("model.layers.3.mlp.gate.weight"),
            "model.layers.3.block_sparse_moe.gate.weight");
  EXPECT_EQ(config.older_name("model.layers.3.mlp.experts.7.up_proj.weight"),
            "model.layers.3.block_sparse_moe.experts.7.w3.weight");
  EXPECT_EQ(config.older_name("model.norm.weight"), "model.norm.weight");
  for (const BadValue& bad : {BadValue{"sliding_window", "4096", "allowed: none"},
                              {"attention_bias", "true", "allowed: false"},
                              {"norm_topk_prob", "false", "allowed: true"},
                              {"decoder_sparse_step", "2", "is not known"},
                              {"num_local_experts", "", "is missing"},
                              {"model_type", "\"qwen3_moe\"", "allowed: mixtral"}}) {
    const std::string message =
        testing::input_error_of([&] { read_file(with(bad, mixtral_file())); });
    EXPECT_NE(message.find(bad.message), std::string::npos) << bad.key << ": " << message;
  }
}

Json qwen2_file() {
  Json values = kGood;
  values["model_type"] = "qwen2_moe";
  values["shared_expert_intermediate_size"] = 24;
  values["sliding_window"] = 4096;
  values["max_window_layers"] = 2;
  values.erase("norm_topk_prob");
  return values;
}

TEST(Qwen2MoeConfig, ReadsWhatItsFilesHave) {
  const auto read_file = [](const Json& values) {
    return read_qwen2_moe_config(ConfigFile(values.dump()).path());
  };
  MoeDecoderConfig config = read_file(qwen2_file());
  EXPECT_EQ(config.shared_intermediate_size, 24);
  EXPECT_EQ(config.shared_experts_name, "shared_expert");
  EXPECT_TRUE(config.has_shared_expert_gate);
  EXPECT_TRUE(config.qkv_bias);
  EXPECT_FALSE(config.has_qk_norm || config.output_bias || config.router.normalize);
  Json changed = qwen2_file();
  changed["qkv_bias"] = false;
  changed["norm_topk_prob"] = true;
  changed["decoder_sparse_step"] = 2;
  config = read_file(changed);
  EXPECT_FALSE(config.qkv_bias);
  EXPECT_TRUE(config.router.normalize);
  EXPECT_EQ(config.is_moe_layer, (std::vector<bool>{false, true, false, true}));
  for (const BadValue& bad : {BadValue{"use_sliding_window", "true", "allowed: false"},
                              {"shared_expert_intermediate_size", "0", "from 1 to"},
                              {"shared_expert_intermediate_size", "", "is missing"},
                              {"attention_bias", "true", "allowed: false"},
                              {"n_shared_experts", "1", "allowed: 0"},
                              {"model_type", "\"qwen3_moe\"", "allowed: qwen2_moe"}}) {
    const std::string message =
        testing::input_error_of([&] { read_file(with(bad, qwen2_file())); });
    EXPECT_NE(message.find(bad.message), std::string::npos) << bad.key << ": " << message;
  }
}

TEST(Qwen3MoeConfig, ConfigsOfThisRepository) {
  const std::string folder = DOVETAIL_SOURCE_DIR "/models/configs/";
  const auto tiny =
      architectures().at("qwen3_moe")({"qwen3_moe", folder + "qwen3-moe-tiny.json", {}, {}});
  EXPECT_EQ(tiny->shape().num_layers(), 4);
  EXPECT_TRUE(tiny->shape().layers.at(3).has_shared_experts);
  EXPECT_EQ(tiny->dims().num_experts, 16);
  EXPECT_EQ(tiny->dims().top_k, 4);

  const auto large =
      architectures().at("qwen3_moe")({"qwen3_moe", folder + "qwen3-30b-a3b.json", {}, {}});
  EXPECT_FALSE(large->shape().layers.at(0).has_shared_experts);
  EXPECT_EQ(large->dims().head_dim, 128);
  // The published model has 30.5 billion parameters.
  std::int64_t bytes = 0;
  for (const auto& part : large->weight_memory({.dtype = at::kBFloat16})) {
    bytes += part.bytes;
  }
  EXPECT_EQ(bytes / 2, 30'532'122'624);
  // A rank of 8 holds an eighth of the experts, and all of the rest.
  const auto one = large->weight_memory({.dtype = at::kBFloat16});
  const auto eighth = large->weight_memory({.ep_size = 8, .ep_rank = 3, .dtype = at::kBFloat16});
  for (std::size_t part = 0; part < one.size(); ++part) {
    EXPECT_EQ(one[part].name, eighth[part].name);
    EXPECT_EQ(one[part].bytes, eighth[part].bytes * (one[part].name == "experts" ? 8 : 1));
  }
  EXPECT_THROW(large->weight_memory({.ep_size = 3}), InputError);
}

}  // namespace
}  // namespace dovetail
