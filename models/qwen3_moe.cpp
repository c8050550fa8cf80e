#include "models/qwen3_moe.hpp"

#include "models/decoder/architecture.hpp"
#include "models/decoder/read_config.hpp"

namespace dovetail {
namespace {

/// Spellings of related models that some Qwen3-MoE files carry with their neutral values.
void refuse_spellings_of_related_models(const HfConfig& file) {
  if (file.boolean_or("qkv_bias", false)) {
    file.fail("qkv_bias", "is true; allowed: false (biases are switched by attention_bias)");
  }
  if (!file.boolean_or("use_qk_norm", true)) {
    file.fail("use_qk_norm", "is false; allowed: true (the model always norms queries and keys)");
  }
  if (file.integer_or("shared_expert_intermediate_size", 0, {.min = 0}) != 0) {
    file.fail("shared_expert_intermediate_size",
              "is not 0; allowed: 0 (shared experts are given by n_shared_experts)");
  }
}

/// Our extension, with DeepSeek's meaning: one shared feed-forward of n_shared_experts *
/// moe_intermediate_size beside the experts of each MoE layer.
void read_shared_experts(const HfConfig& file, MoeDecoderConfig& config) {
  config.shared_intermediate_size = config.moe_intermediate_size *
                                    file.integer_or("n_shared_experts", 0, {.min = 0, .max = 1024});
}

}  // namespace

MoeDecoderConfig read_qwen3_moe_config(const std::string& path) {
  const HfConfig file = HfConfig::read(path);
  refuse_what_is_not_built(file, "qwen3_moe");
  refuse_spellings_of_related_models(file);
  MoeDecoderConfig config;
  read_sizes(file, config);
  read_attention(file, config);
  read_rope(file, config);
  read_experts(file, config);
  read_shared_experts(file, config);
  read_layers(file, config);
  return config;
}

std::unique_ptr<Architecture> make_qwen3_moe(const ModelConfig& model) {
  return make_decoder(read_qwen3_moe_config(model.config), model);
}

}  // namespace dovetail
