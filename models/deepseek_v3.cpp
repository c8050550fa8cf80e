#include "models/deepseek_v3.hpp"

#include "models/decoder/architecture.hpp"
#include "models/decoder/read_config.hpp"
#include "models/hf_config_keys.hpp"

namespace dovetail {

MoeDecoderConfig read_deepseek_v3_config(const std::string& path) {
  const HfConfig file = read_file_of(path, {"deepseek_v3", "kimi_k2"});
  MoeDecoderConfig config;
  read_sizes(file, config);
  read_latent_attention(file, config);
  config.latent->rotates_pairs = file.boolean("rope_interleave");
  read_routed_experts(file, config);
  read_sigmoid_router(file, config);
  read_dense_first_layers(file, config);
  refuse_other_keys(file);
  return config;
}

std::unique_ptr<Architecture> make_deepseek_v3(const ModelConfig& model) {
  return make_decoder(read_deepseek_v3_config(model.config), model);
}

}  // namespace dovetail
