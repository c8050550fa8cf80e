// Qwen3-MoE's part of a config.json: the sizes and switches that change what the model computes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "framework/config/experiment.hpp"
#include "models/layers/rotary.hpp"

namespace dovetail {

/// Field names and meaning as in Hugging Face's Qwen3MoeConfig.
struct Qwen3MoeConfig {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;  ///< of dense layers; 0 where there is none
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t num_experts = 0;
  std::int64_t num_experts_per_tok = 0;
  std::int64_t moe_intermediate_size = 0;
  /// Our extension, with DeepSeek's meaning: one shared feed-forward of n_shared_experts *
  /// moe_intermediate_size beside the experts of each MoE layer.
  std::int64_t n_shared_experts = 0;
  bool norm_topk_prob = false;
  bool attention_bias = false;
  bool tie_word_embeddings = false;
  double rms_norm_eps = 0;
  double rope_theta = 0;
  MropeSections mrope;             ///< mrope_section and mrope_interleaved
  std::vector<bool> is_moe_layer;  ///< [num_hidden_layers]
  std::string published_dtype;  ///< torch_dtype, or dtype, of the published weights; may be empty
  /// The stage of the model that runs; none = all layers. Not from the file.
  std::optional<LayerRange> layers;

  std::int64_t shared_intermediate_size() const { return n_shared_experts * moe_intermediate_size; }

  LayerRange stage() const {
    return layers.value_or(LayerRange{.first = 0, .last = static_cast<int>(num_hidden_layers)});
  }

  bool is_first_stage() const { return stage().first == 0; }

  bool is_last_stage() const { return stage().last == num_hidden_layers; }
};

/// Reads a config.json as transformers 4 or 5 writes it. Throws InputError naming file and key:
/// what is missing, of the wrong type or out of range, sizes that do not divide, and features that
/// change the outputs and are not built (sliding windows, RoPE scaling, quantization, ...).
Qwen3MoeConfig read_qwen3_moe_config(const std::string& path);

}  // namespace dovetail
