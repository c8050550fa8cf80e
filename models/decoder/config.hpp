// The sizes and switches of a decoder of grouped-query or latent attention and mixture-of-experts
// layers: all that a config.json says of what such a model computes.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "framework/config/experiment.hpp"
#include "models/layers/latent_attention.hpp"
#include "models/layers/rotary_frequencies.hpp"
#include "models/layers/router.hpp"

namespace dovetail {

/// Field names and meaning as in the configurations of transformers, where these have them.
struct MoeDecoderConfig {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;  ///< of dense layers; 0 where there is none
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t rotary_dim = 0;  ///< the first elements of a head, which turn; 0 = all
  /// Attention over latents. num_key_value_heads says nothing then, and head_dim is of the part of
  /// queries and keys that turns.
  std::optional<LatentAttentionDims> latent;
  std::int64_t num_experts = 0;
  std::int64_t moe_intermediate_size = 0;
  /// Of one feed-forward that all tokens pass beside the experts of each MoE layer; 0 = none.
  std::int64_t shared_intermediate_size = 0;
  /// The shared expert's result counts for each token as much as the sigmoid of a gate says.
  bool has_shared_expert_gate = false;
  std::string shared_experts_name = "shared_experts";  ///< of the module in checkpoints
  RouterRule router;                                   ///< top_k is num_experts_per_tok
  bool has_router_bias = false;                        ///< e_score_correction_bias
  bool qkv_bias = false;     ///< of latent attention: of q_a_proj and kv_a_proj_with_mqa
  bool output_bias = false;  ///< of attention
  bool has_qk_norm = false;  ///< queries and keys are normed, head by head
  bool tie_word_embeddings = false;
  double rms_norm_eps = 0;
  RopeParameters rope;
  std::vector<bool> is_moe_layer;  ///< [num_hidden_layers]
  /// The name of a parameter in checkpoints of transformers 4, from that of transformers 5 with one
  /// tensor an expert ("...mlp.experts.3.up_proj.weight"); empty where the two are equal.
  std::function<std::string(std::string name)> older_name;
  std::string published_dtype;  ///< torch_dtype, or dtype, of the published weights; may be empty
  /// The stage of the model that runs; none = all layers. Not from the file.
  std::optional<LayerRange> layers;

  std::int64_t turned_dim() const { return rotary_dim > 0 ? rotary_dim : head_dim; }

  LayerRange stage() const {
    return layers.value_or(LayerRange{.first = 0, .last = static_cast<int>(num_hidden_layers)});
  }

  bool is_first_stage() const { return stage().first == 0; }

  bool is_last_stage() const { return stage().last == num_hidden_layers; }
};

}  // namespace dovetail
