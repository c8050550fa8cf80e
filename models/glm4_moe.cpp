#include "models/glm4_moe.hpp"

#include "models/decoder/architecture.hpp"
#include "models/decoder/read_config.hpp"
#include "models/decoder/read_rope.hpp"
#include "models/hf_config_keys.hpp"

namespace dovetail {

MoeDecoderConfig read_glm4_moe_config(const std::string& path) {
  constexpr double partial_rotary_factor = 0.5;  // where the file does not say
  const HfConfig file = read_file_of(path, {"glm4_moe"});
  MoeDecoderConfig config;
  read_sizes(file, config);
  read_attention(file, config);
  config.has_qk_norm = file.boolean("use_qk_norm");
  config.qkv_bias = file.boolean("attention_bias");
  config.rotary_dim = read_rotary_dim(file, config.head_dim, partial_rotary_factor);
  config.rope = read_rope(file, config.rotary_dim, PartialRotary::read);
  read_routed_experts(file, config);
  read_sigmoid_router(file, config);
  read_dense_first_layers(file, config);
  refuse_other_keys(file);
  return config;
}

std::unique_ptr<Architecture> make_glm4_moe(const ModelConfig& model) {
  return make_decoder(read_glm4_moe_config(model.config), model);
}

}  // namespace dovetail
