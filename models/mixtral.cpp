#include "models/mixtral.hpp"

#include <array>
#include <string_view>
#include <utility>

#include "models/decoder/architecture.hpp"
#include "models/decoder/read_config.hpp"
#include "models/decoder/read_rope.hpp"
#include "models/hf_config_keys.hpp"

namespace dovetail {
namespace {

/// transformers 4 calls the module and the matrices of its experts otherwise than all others do
/// (conversion_mapping.py of transformers 5.17).
std::string name_of_transformers_4(std::string name) {
  constexpr auto others =
      std::to_array<std::pair<std::string_view, std::string_view>>({{".mlp.", ".block_sparse_moe."},
                                                                    {".gate_proj.", ".w1."},
                                                                    {".up_proj.", ".w3."},
                                                                    {".down_proj.", ".w2."}});
  for (const auto& [now, before] : others) {
    if (const auto at = name.find(now); at != std::string::npos) {
      name.replace(at, now.size(), before);
    }
  }
  return name;
}

}  // namespace

MoeDecoderConfig read_mixtral_config(const std::string& path) {
  const HfConfig file = read_file_of(path, {"mixtral"});
  MoeDecoderConfig config;
  read_sizes(file, config);
  read_attention(file, config);
  config.rope = read_rope(file, config.head_dim);
  read_experts(file, config);
  config.moe_intermediate_size = file.integer("intermediate_size");
  config.router.normalize = true;
  read_layer_types(file, config);
  config.is_moe_layer.assign(static_cast<std::size_t>(config.num_hidden_layers), true);
  config.older_name = name_of_transformers_4;
  refuse_other_keys(file);
  return config;
}

std::unique_ptr<Architecture> make_mixtral(const ModelConfig& model) {
  return make_decoder(read_mixtral_config(model.config), model);
}

}  // namespace dovetail
