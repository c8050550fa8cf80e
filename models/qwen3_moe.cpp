#include "models/qwen3_moe.hpp"

#include "models/decoder/architecture.hpp"
#include "models/decoder/read_config.hpp"
#include "models/decoder/read_rope.hpp"
#include "models/hf_config_keys.hpp"

namespace dovetail {
namespace {

/// Some files carry this key of a related model.
void check_norms(const HfConfig& file) {
  if (!file.boolean_or("use_qk_norm", true)) {
    file.fail("use_qk_norm", "is false; allowed: true (the model always norms queries and keys)");
  }
}

}  // namespace

MoeDecoderConfig read_qwen3_moe_config(const std::string& path) {
  const HfConfig file = read_file_of(path, {"qwen3_moe"});
  MoeDecoderConfig config;
  read_sizes(file, config);
  read_attention(file, config);
  config.has_qk_norm = true;
  config.qkv_bias = file.boolean("attention_bias");
  config.output_bias = config.qkv_bias;
  config.rope = read_rope(file, config.head_dim);
  read_experts(file, config);
  config.moe_intermediate_size = file.integer("moe_intermediate_size");
  config.router.normalize = file.boolean("norm_topk_prob");
  read_shared_experts(file, config);  // our extension, with the meaning of DeepSeek's
  read_layers(file, config);
  check_norms(file);
  refuse_sliding_windows(file);
  refuse_other_keys(file);
  return config;
}

std::unique_ptr<Architecture> make_qwen3_moe(const ModelConfig& model) {
  return make_decoder(read_qwen3_moe_config(model.config), model);
}

}  // namespace dovetail
