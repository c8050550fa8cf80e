#include "models/deepseek_v2.hpp"

#include "models/decoder/architecture.hpp"
#include "models/decoder/read_config.hpp"
#include "models/hf_config_keys.hpp"

namespace dovetail {
namespace {

/// transformers does not normalise the weights of this architecture, whatever norm_topk_prob says.
void read_router(const HfConfig& file, MoeDecoderConfig& config) {
  if (file.boolean("norm_topk_prob")) {
    file.fail("norm_topk_prob",
              "is true, which is not built for this architecture; allowed: false");
  }
  if (file.string_or("scoring_func", "softmax") != "softmax") {
    file.fail("scoring_func", "must be softmax");
  }
  config.router.is_float32 = true;
  const std::string method = file.string("topk_method");
  if (method == "group_limited_greedy") {
    read_expert_groups(file, GroupScore::best, config);
  } else if (method == "greedy") {  // the groups do not matter then
    file.has("n_group");
    file.has("topk_group");
  } else {
    file.fail("topk_method", "must be greedy or group_limited_greedy");
  }
}

}  // namespace

MoeDecoderConfig read_deepseek_v2_config(const std::string& path) {
  const HfConfig file = read_file_of(path, {"deepseek_v2"});
  MoeDecoderConfig config;
  read_sizes(file, config);
  read_latent_attention(file, config);
  config.latent->rotates_pairs = true;
  read_routed_experts(file, config);
  read_router(file, config);
  read_dense_first_layers(file, config);
  refuse_other_keys(file);
  return config;
}

std::unique_ptr<Architecture> make_deepseek_v2(const ModelConfig& model) {
  return make_decoder(read_deepseek_v2_config(model.config), model);
}

}  // namespace dovetail
