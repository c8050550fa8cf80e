#include "tests/unit/models/small_model.hpp"

#include <random>

namespace dovetail {

MoeDecoderConfig small_config() {
  MoeDecoderConfig config;
  config.vocab_size = 50;
  config.hidden_size = 48;
  config.intermediate_size = 40;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 6;
  config.num_key_value_heads = 2;
  config.head_dim = 12;
  config.num_experts = 8;
  config.router.top_k = 3;
  config.moe_intermediate_size = 24;
  config.shared_intermediate_size = 48;
  config.router.normalize = true;
  config.has_qk_norm = true;
  config.rms_norm_eps = 1e-6;
  config.rope.theta = 1000;
  config.rope.mrope = {.section = {2, 2, 2}};
  config.is_moe_layer = {true, false, true};
  return config;
}

std::vector<std::vector<std::int64_t>> random_requests(std::uint64_t seed,
                                                       const std::vector<int>& lengths) {
  std::mt19937_64 random(seed);
  std::vector<std::vector<std::int64_t>> requests;
  for (const int length : lengths) {
    requests.emplace_back();
    for (int token = 0; token < length; ++token) {
      requests.back().push_back(static_cast<std::int64_t>(random() % 50));
    }
  }
  return requests;
}

std::vector<std::unique_ptr<Model>> make_ranks(const MoeDecoderConfig& config,
                                               WeightSource& source,
                                               int ep_size,
                                               at::ScalarType dtype) {
  const MoeDecoderArchitecture architecture(config);
  std::vector<std::unique_ptr<Model>> ranks;
  for (int rank = 0; rank < ep_size; ++rank) {
    ranks.push_back(architecture.make_model(
        source, {.ep_size = ep_size, .ep_rank = rank, .dtype = dtype, .device = at::kCPU}));
  }
  return ranks;
}

}  // namespace dovetail
