// config.json: what cannot be read is an error that names file and key.
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/base/scratch_folder.hpp"
#include "models/qwen3_moe.hpp"
#include "tests/support/pipe_file.hpp"
#include "tests/unit/models/config_file.hpp"

namespace dovetail {
namespace {

using testing::BadValue;
using testing::error_of_text;
using testing::Json;
using testing::kGood;
using testing::read;
using testing::with;

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

}  // namespace
}  // namespace dovetail
