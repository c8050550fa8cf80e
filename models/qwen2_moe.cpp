#include "models/qwen2_moe.hpp"

#include "models/decoder/architecture.hpp"
#include "models/decoder/read_config.hpp"
#include "models/decoder/read_rope.hpp"
#include "models/hf_config_keys.hpp"

namespace dovetail {
namespace {

/// One expert that all tokens pass; a gate says for each token how much of it counts.
void read_shared_expert(const HfConfig& file, MoeDecoderConfig& config) {
  config.shared_intermediate_size = file.integer("shared_expert_intermediate_size");
  config.shared_experts_name = "shared_expert";
  config.has_shared_expert_gate = true;
}

}  // namespace

MoeDecoderConfig read_qwen2_moe_config(const std::string& path) {
  const HfConfig file = read_file_of(path, {"qwen2_moe"});
  MoeDecoderConfig config;
  read_sizes(file, config);
  read_attention(file, config);
  config.qkv_bias = file.boolean("qkv_bias");
  config.rope = read_rope(file, config.head_dim);
  read_experts(file, config);
  config.moe_intermediate_size = file.integer("moe_intermediate_size");
  config.router.normalize = file.boolean("norm_topk_prob");
  read_shared_expert(file, config);
  read_layers(file, config);
  refuse_sliding_windows(file);
  refuse_other_keys(file);
  return config;
}

std::unique_ptr<Architecture> make_qwen2_moe(const ModelConfig& model) {
  return make_decoder(read_qwen2_moe_config(model.config), model);
}

}  // namespace dovetail
