// config.json: what transformers 4 and 5 write is read alike; everything else is an error that
// names file and key.
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/scratch_folder.hpp"
#include "models/mixtral.hpp"
#include "models/qwen2_moe.hpp"
#include "models/qwen3_moe.hpp"
#include "models/registry.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/pipe_file.hpp"

namespace dovetail {
namespace {

using Json = nlohmann::json;

const Json kGood = Json::parse(R"({
  "model_type": "qwen3_moe", "vocab_size": 100, "hidden_size": 48, "intermediate_size": 64,
  "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 10,
  "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "norm_topk_prob": true,
  "rms_norm_eps": 1e-6, "rope_theta": 10000, "rope_scaling": null, "hidden_act": "silu",
  "mlp_only_layers": [], "decoder_sparse_step": 1, "sliding_window": null,
  "use_sliding_window": false, "max_position_embeddings": 4096})");

class ConfigFile {
 public:
  explicit ConfigFile(const std::string& text) : path_((folder_.path() / "config.json").string()) {
    std::ofstream(path_) << text;
  }

  const std::string& path() const { return path_; }

 private:
  ScratchFolder folder_;
  std::string path_;
};

MoeDecoderConfig read(const Json& values) {
  return read_qwen3_moe_config(ConfigFile(values.dump(2)).path());
}

std::string error_of_text(const std::string& text) {
  const ConfigFile file(text);
  auto message = testing::input_error_of([&] { read_qwen3_moe_config(file.path()); });
  EXPECT_EQ(message.rfind(file.path() + ":", 0), 0U) << "file not named: " << message;
  return message;
}

struct BadValue {
  std::string key;      // "a.b" = key b of object a
  std::string value;    // JSON; empty = the key is taken out
  std::string message;  // a part of what must be said
};

Json with(const BadValue& change, Json values = kGood) {
  Json::json_pointer place;
  std::string rest = change.key;
  for (std::size_t dot = rest.find('.'); dot != std::string::npos; dot = rest.find('.')) {
    place /= rest.substr(0, dot);
    rest = rest.substr(dot + 1);
  }
  if (change.value.empty()) {
    values.erase(change.key);
  } else {
    values[place / rest] = Json::parse(change.value);
  }
  return values;
}

const BadValue kBadValues[] = {
    {"model_type", "", "is missing"},
    {"vocab_size", "", "is missing"},
    {"hidden_size", "", "is missing"},
    {"num_hidden_layers", "", "is missing"},
    {"num_attention_heads", "", "is missing"},
    {"num_key_value_heads", "", "is missing"},
    {"num_experts", "", "is missing"},
    {"num_experts_per_tok", "", "is missing"},
    {"moe_intermediate_size", "", "is missing"},
    {"norm_topk_prob", "", "is missing"},
    {"rms_norm_eps", "", "is missing"},
    {"rope_theta", "", "is missing, at the top level and in rope_parameters"},
    {"hidden_size", "null", "is missing"},
    {"model_type", "\"qwen2_moe\"", "allowed: qwen3_moe"},
    {"model_type", "3", "allowed: a string"},
    {"vocab_size", "0", "from 1 to"},
    {"vocab_size", "-5", "from 1 to"},
    {"vocab_size", "\"100\"", "a whole number"},
    {"vocab_size", "100.0", "a whole number"},
    {"vocab_size", "true", "a whole number"},
    {"vocab_size", "18446744073709551615", "a whole number"},
    {"hidden_size", "1e3", "a whole number"},
    {"hidden_size", "9999999999", "from 1 to"},
    {"hidden_size", "[48]", "a whole number"},
    {"num_hidden_layers", "0", "from 1 to"},
    {"num_key_value_heads", "4", "a divisor of num_attention_heads 6"},
    {"num_key_value_heads", "12", "a divisor of num_attention_heads 6"},
    {"head_dim", "5", "an even number"},
    {"head_dim", "0", "from 1 to"},
    {"num_experts", "0", "from 1 to"},
    {"num_experts_per_tok", "9", "from 1 to 8"},
    {"num_experts_per_tok", "0", "from 1 to 8"},
    {"num_local_experts", "16", "differs from num_experts"},
    {"norm_topk_prob", "1", "allowed: true, false"},
    {"norm_topk_prob", "\"true\"", "allowed: true, false"},
    {"tie_word_embeddings", "0", "allowed: true, false"},
    {"attention_bias", "\"no\"", "allowed: true, false"},
    {"rms_norm_eps", "0", "a number > 0"},
    {"rms_norm_eps", "-1e-6", "a number > 0"},
    {"rms_norm_eps", "\"1e-6\"", "a number > 0"},
    {"rope_theta", "0", "a number > 0"},
    {"rope_theta", "{}", "a number > 0"},
    {"rope_scaling", "\"default\"", "allowed: an object"},
    {"rope_scaling", R"({"rope_type": "longrope", "factor": 4})", "allowed: default, dynamic"},
    {"rope_scaling", R"({"type": "su", "factor": 4})", "allowed: default, dynamic"},
    {"rope_scaling", R"({"type": "yarn", "rope_type": "linear", "factor": 4})", "one value"},
    {"rope_scaling", R"({"type": "linear"})", "is missing"},
    {"rope_scaling", R"({"type": "linear", "factor": 0.5})", "a number of at least 1"},
    {"rope_scaling", R"({"type": "linear", "factor": 2, "beta_fast": 3})", "not a key of this"},
    {"rope_scaling", R"({"type": "dynamic", "factor": "2"})", "a number of at least 1"},
    {"rope_scaling", R"({"factor": 2})", "not a key of this rope_type"},
    {"rope_scaling", R"({"type": "yarn", "factor": 2, "attn_factor": 2})", "not a key of this"},
    {"rope_scaling",
     R"({"type": "yarn", "factor": 2, "beta_fast": 1, "beta_slow": 2})",
     "beta_slow"},
    {"rope_scaling", R"({"type": "yarn", "factor": 2, "truncate": 1})", "true, false"},
    {"rope_scaling", R"({"type": "yarn", "factor": 2, "mscale": -1})", "at least 0"},
    {"rope_scaling", R"({"full_attention": {"rope_type": "longrope"}})", "allowed: default"},
    {"rope_scaling", R"({"full_attention": {"rope_theta": 1e4, "beta": 2}})", "not a key of this"},
    {"rope_scaling", R"({"full_attention": {}, "sliding_attention": {}})", "full_attention alone"},
    {"rope_scaling", R"({"sliding_attention": {"rope_theta": 1e4}})", "not a key of this"},
    {"rope_parameters", R"({"rope_type": "llama3", "rope_theta": 10000})", "is missing"},
    {"rope_parameters",
     R"({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4})",
     "above low_freq_factor"},
    {"attn_logit_softcapping", "30.0", "allowed: 0, none"},
    {"first_k_dense_replace", "1", "allowed: 0, none"},
    {"scoring_func", "\"sigmoid\"", "allowed: \"softmax\", none"},
    {"a_key_of_tomorrow", "1", "is not known"},
    {"rope_parameters", R"({"rope_type": "default", "rope_theta": 20000})", "allowed: one value"},
    {"rope_parameters", R"({"partial_rotary_factor": 0.5})", "allowed: 1"},
    {"rope_parameters", R"({"mrope_section": [1, 2]})", "add up to head_dim / 2 = 5"},
    {"rope_parameters", R"({"mrope_section": [1, 2, 3]})", "add up to head_dim / 2 = 5"},
    {"rope_parameters",
     R"({"mrope_section": [0, 3, 2], "mrope_interleaved": true})",
     "at most 2 for the height and 1 for the width"},
    {"rope_parameters",
     R"({"mrope_section": [3, 0, 2], "mrope_interleaved": true})",
     "at most 2 for the height and 1 for the width"},
    {"rope_parameters", R"({"mrope_interleaved": true})", "mrope_interleaved needs"},
    {"rope_parameters", R"({"mrope_section": [1, 2, 2], "mrope_interleaved": 1})", "true, false"},
    {"partial_rotary_factor", "0.5", "allowed: 1"},
    {"hidden_act", "\"gelu\"", "allowed: silu"},
    {"use_sliding_window", "true", "allowed: false"},
    {"layer_types", R"(["full_attention", "sliding_attention"])", "allowed: full_attention"},
    {"layer_types", R"("full_attention")", "a list of strings"},
    {"layer_types", R"(["full_attention"])", "holds 1 entries; allowed: num_hidden_layers 4"},
    {"layer_types",
     R"(["full_attention", "full_attention", "full_attention", "full_attention", "full_attention"])",
     "holds 5 entries"},
    {"quantization_config", R"({"quant_method": "gptq"})", "allowed: fp8"},
    {"quantization_config", R"({"quant_method": "fp8"})", "must be [128, 128]"},
    {"quantization_config",
     R"({"quant_method": "fp8", "weight_block_size": [128, 64]})",
     "must be [128, 128]"},
    {"quantization_config",
     R"({"quant_method": "fp8", "weight_block_size": [128, 128], "fmt": "e5m2"})",
     "allowed: e4m3"},
    {"quantization_config",
     R"({"quant_method": "fp8", "weight_block_size": [128, 128], "scale_fmt": "e5m3"})",
     "allowed: float, ue8m0"},
    {"quantization_config",
     R"({"quant_method": "fp8", "weight_block_size": [128, 128], "dequantize": 1})",
     "true, false"},
    {"quantization_config",
     R"({"quant_method": "fp8", "weight_block_size": [128, 128], "more": 1})",
     "not known"},
    {"qkv_bias", "true", "allowed: false"},
    {"use_qk_norm", "false", "allowed: true"},
    {"shared_expert_intermediate_size", "16", "allowed: 0"},
    {"n_shared_experts", "-1", "from 0 to"},
    {"decoder_sparse_step", "0", "from 1 to"},
    {"mlp_only_layers", "1", "a list of whole numbers"},
    {"mlp_only_layers", "[-1]", "from 0 to"},
    {"mlp_only_layers", "[1.5]", "from 0 to"},
};

TEST(Qwen3MoeConfig, BadValuesAreNamed) {
  ASSERT_NO_THROW(read(kGood));
  ASSERT_GE(std::size(kBadValues), 40U);
  for (const BadValue& bad : kBadValues) {
    const std::string message = error_of_text(with(bad).dump());
    const bool names_key = message.find("key '" + bad.key + "'") != std::string::npos ||
                           message.find("key '" + bad.key + ".") != std::string::npos;
    EXPECT_TRUE(names_key) << bad.key << " = " << bad.value << ": " << message;
    EXPECT_NE(message.find(bad.message), std::string::npos)
        << bad.key << " = " << bad.value << ": " << message;
  }
}

TEST(Qwen3MoeConfig, SizesThatOthersNeed) {
  Json dense = kGood;
  dense["decoder_sparse_step"] = 2;
  EXPECT_NO_THROW(read(dense));
  dense.erase("intermediate_size");
  EXPECT_NE(error_of_text(dense.dump()).find("key 'intermediate_size' is missing"),
            std::string::npos);
  dense["decoder_sparse_step"] = 1;
  EXPECT_NO_THROW(read(dense));

  Json no_head_dim = kGood;
  no_head_dim["head_dim"] = nullptr;
  EXPECT_EQ(read(no_head_dim).head_dim, 8);
  no_head_dim["hidden_size"] = 50;
  EXPECT_NE(error_of_text(no_head_dim.dump()).find("a divisor of hidden_size"), std::string::npos);
}

TEST(Qwen3MoeConfig, BadFilesAreNamed) {
  EXPECT_NE(error_of_text("").find("not JSON"), std::string::npos);
  EXPECT_NE(error_of_text(kGood.dump() + std::string("\0x", 2)).find("a NUL byte in line 1"),
            std::string::npos);
  EXPECT_NE(error_of_text("[]").find("an object is needed, not array"), std::string::npos);
  EXPECT_NE(error_of_text("{\n \"a\": 1,\n oops}").find("line 3"), std::string::npos);
  EXPECT_NE(error_of_text(R"({"vocab_size": 1, "vocab_size": 2})").find("'vocab_size'"),
            std::string::npos);
  EXPECT_THROW(read_qwen3_moe_config("/nowhere/config.json"), InputError);
  EXPECT_THROW(read_qwen3_moe_config("/"), InputError);
  const ScratchFolder folder;
  const std::string config = folder.path() / "config.json";
  testing::expect_pipe_refused(config, [&] { read_qwen3_moe_config(config); });
  std::filesystem::remove(config);
  std::ofstream(config) << "{}";
  std::filesystem::resize_file(config, std::uintmax_t{1} << 40U);  // sparse
  EXPECT_THROW(read_qwen3_moe_config(config), InputError);
}

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
