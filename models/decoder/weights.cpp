#include "models/decoder/weights.hpp"

#include <array>
#include <optional>
#include <utility>

#include <ATen/ops/empty.h>

#include "models/decoder/tied_weights.hpp"
#include "models/weights/expert_weights.hpp"

namespace dovetail {
namespace {

MlpWeights allocate_mlp(std::int64_t hidden, std::int64_t inner, const at::TensorOptions& options) {
  return {.gate_up = at::empty({2 * inner, hidden}, options),
          .down = at::empty({hidden, inner}, options)};
}

AttentionWeights allocate_attention(const MoeDecoderConfig& config,
                                    const at::TensorOptions& options) {
  const std::int64_t query_rows = config.num_attention_heads * config.head_dim;
  const std::int64_t qkv_rows = query_rows + 2 * config.num_key_value_heads * config.head_dim;
  AttentionWeights weights;
  weights.qkv = at::empty({qkv_rows, config.hidden_size}, options);
  weights.output = at::empty({config.hidden_size, query_rows}, options);
  if (config.qkv_bias) {
    weights.qkv_bias = at::empty({qkv_rows}, options);
  }
  if (config.output_bias) {
    weights.output_bias = at::empty({config.hidden_size}, options);
  }
  if (config.has_qk_norm) {
    weights.q_norm = at::empty({config.head_dim}, options);
    weights.k_norm = at::empty({config.head_dim}, options);
  }
  return weights;
}

void visit_attention(const MoeDecoderConfig& config,
                     const std::string& prefix,
                     const AttentionWeights& weights,
                     const MoeDecoderVisitor& visitor) {
  const std::int64_t query_rows = config.num_attention_heads * config.head_dim;
  const std::int64_t kv_rows = config.num_key_value_heads * config.head_dim;
  const auto visit_stacked = [&](const at::Tensor& stacked, const std::string& suffix) {
    const auto part = MoeDecoderPart::attention;
    visitor.replicated(part, prefix + ".q_proj" + suffix, stacked.narrow(0, 0, query_rows));
    visitor.replicated(part, prefix + ".k_proj" + suffix, stacked.narrow(0, query_rows, kv_rows));
    visitor.replicated(
        part, prefix + ".v_proj" + suffix, stacked.narrow(0, query_rows + kv_rows, kv_rows));
  };
  visit_stacked(weights.qkv, ".weight");
  visitor.replicated(MoeDecoderPart::attention, prefix + ".o_proj.weight", weights.output);
  if (config.qkv_bias) {
    visit_stacked(weights.qkv_bias, ".bias");
  }
  if (config.output_bias) {
    visitor.replicated(MoeDecoderPart::attention, prefix + ".o_proj.bias", weights.output_bias);
  }
  if (config.has_qk_norm) {
    visitor.replicated(MoeDecoderPart::norms, prefix + ".q_norm.weight", weights.q_norm);
    visitor.replicated(MoeDecoderPart::norms, prefix + ".k_norm.weight", weights.k_norm);
  }
}

LatentAttentionWeights allocate_latent_attention(const MoeDecoderConfig& config,
                                                 const at::TensorOptions& options) {
  const LatentAttentionDims& dims = *config.latent;
  const std::int64_t hidden = config.hidden_size;
  LatentAttentionWeights weights;
  if (dims.q_lora_rank > 0) {
    weights.q_down = at::empty({dims.q_lora_rank, hidden}, options);
    weights.q_norm = at::empty({dims.q_lora_rank}, options);
  }
  weights.query = at::empty(
      {dims.heads * dims.query_size(), dims.q_lora_rank > 0 ? dims.q_lora_rank : hidden}, options);
  weights.kv_down = at::empty({dims.latent_size(), hidden}, options);
  weights.kv_norm = at::empty({dims.kv_lora_rank}, options);
  weights.kv_up = at::empty(
      {dims.heads * (dims.qk_nope_head_dim + dims.v_head_dim), dims.kv_lora_rank}, options);
  weights.output = at::empty({hidden, dims.heads * dims.v_head_dim}, options);
  if (config.qkv_bias) {
    weights.kv_down_bias = at::empty({dims.latent_size()}, options);
    if (dims.q_lora_rank > 0) {
      weights.q_down_bias = at::empty({dims.q_lora_rank}, options);
    }
  }
  if (config.output_bias) {
    weights.output_bias = at::empty({hidden}, options);
  }
  return weights;
}

void visit_latent_attention(const MoeDecoderConfig& config,
                            const std::string& prefix,
                            const LatentAttentionWeights& weights,
                            const MoeDecoderVisitor& visitor) {
  const auto visit = [&](MoeDecoderPart part, const char* name, const at::Tensor& values) {
    if (values.defined()) {
      visitor.replicated(part, prefix + name, values);
    }
  };
  const auto part = MoeDecoderPart::attention;
  visit(part, ".q_a_proj.weight", weights.q_down);
  visit(part, ".q_a_proj.bias", weights.q_down_bias);
  visit(MoeDecoderPart::norms, ".q_a_layernorm.weight", weights.q_norm);
  visit(
      part, config.latent->q_lora_rank > 0 ? ".q_b_proj.weight" : ".q_proj.weight", weights.query);
  visit(part, ".kv_a_proj_with_mqa.weight", weights.kv_down);
  visit(part, ".kv_a_proj_with_mqa.bias", weights.kv_down_bias);
  visit(MoeDecoderPart::norms, ".kv_a_layernorm.weight", weights.kv_norm);
  visit(part, ".kv_b_proj.weight", weights.kv_up);
  visit(part, ".o_proj.weight", weights.output);
  visit(part, ".o_proj.bias", weights.output_bias);
}

void visit_mlp(MoeDecoderPart part,
               const std::string& prefix,
               const MlpWeights& weights,
               const MoeDecoderVisitor& visitor) {
  const std::int64_t inner = weights.down.size(1);
  visitor.replicated(part, prefix + ".gate_proj.weight", weights.gate_up.narrow(0, 0, inner));
  visitor.replicated(part, prefix + ".up_proj.weight", weights.gate_up.narrow(0, inner, inner));
  visitor.replicated(part, prefix + ".down_proj.weight", weights.down);
}

void visit_layer(const MoeDecoderConfig& config,
                 const std::string& prefix,
                 const MoeDecoderLayerWeights& layer,
                 const MoeDecoderVisitor& visitor) {
  visitor.replicated(MoeDecoderPart::norms, prefix + ".input_layernorm.weight", layer.input_norm);
  if (config.latent) {
    visit_latent_attention(config, prefix + ".self_attn", layer.latent_attention, visitor);
  } else {
    visit_attention(config, prefix + ".self_attn", layer.attention, visitor);
  }
  visitor.replicated(MoeDecoderPart::norms,
                     prefix + ".post_attention_layernorm.weight",
                     layer.post_attention_norm);
  if (!layer.router.defined()) {
    visit_mlp(MoeDecoderPart::dense_layers, prefix + ".mlp", layer.mlp, visitor);
    return;
  }
  visitor.replicated(MoeDecoderPart::router, prefix + ".mlp.gate.weight", layer.router);
  if (layer.router_bias.defined()) {
    visitor.replicated(
        MoeDecoderPart::router, prefix + ".mlp.gate.e_score_correction_bias", layer.router_bias);
  }
  visitor.experts(prefix + ".mlp", layer.experts);
  if (layer.shared_experts.down.defined()) {
    visit_mlp(MoeDecoderPart::shared_experts,
              prefix + ".mlp." + config.shared_experts_name,
              layer.shared_experts,
              visitor);
  }
  if (layer.shared_expert_gate.defined()) {
    visitor.replicated(MoeDecoderPart::shared_experts,
                       prefix + ".mlp.shared_expert_gate.weight",
                       layer.shared_expert_gate);
  }
}

}  // namespace

MoeDecoderWeights allocate_decoder(const MoeDecoderConfig& config,
                                   const ModelPlacement& placement) {
  const auto options = at::TensorOptions().dtype(placement.dtype).device(placement.device);
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t inner = config.moe_intermediate_size;
  const std::int64_t experts = config.num_experts / placement.ep_size;
  MoeDecoderWeights weights;
  if (config.is_first_stage()) {
    weights.embedding = at::empty({config.vocab_size, hidden}, options);
  }
  for (int number = config.stage().first; number < config.stage().last; ++number) {
    MoeDecoderLayerWeights layer;
    layer.input_norm = at::empty({hidden}, options);
    if (config.latent) {
      layer.latent_attention = allocate_latent_attention(config, options);
    } else {
      layer.attention = allocate_attention(config, options);
    }
    layer.post_attention_norm = at::empty({hidden}, options);
    if (config.is_moe_layer.at(static_cast<std::size_t>(number))) {
      layer.router = at::empty({config.num_experts, hidden}, options);
      if (config.has_router_bias) {
        layer.router_bias = at::empty({config.num_experts}, options.dtype(at::kFloat));
      }
      layer.experts.gate_up = at::empty({experts, 2 * inner, hidden}, options);
      layer.experts.down = at::empty({experts, hidden, inner}, options);
      if (config.shared_intermediate_size > 0) {
        layer.shared_experts = allocate_mlp(hidden, config.shared_intermediate_size, options);
      }
      if (config.has_shared_expert_gate) {
        layer.shared_expert_gate = at::empty({1, hidden}, options);
      }
    } else {
      layer.mlp = allocate_mlp(hidden, config.intermediate_size, options);
    }
    weights.layers.push_back(std::move(layer));
  }
  if (config.is_last_stage()) {
    weights.final_norm = at::empty({hidden}, options);
    // A last stage behind another reads tied embeddings as its lm_head.
    weights.lm_head = config.tie_word_embeddings && config.is_first_stage()
                          ? weights.embedding
                          : at::empty({config.vocab_size, hidden}, options);
  }
  if (config.tie_word_embeddings) {
    weights.lm_head_name = weights.embedding_name;
  }
  return weights;
}

void visit_decoder(const MoeDecoderConfig& config,
                   const MoeDecoderWeights& weights,
                   const MoeDecoderVisitor& visitor) {
  if (config.is_first_stage()) {
    visitor.replicated(MoeDecoderPart::embedding, weights.embedding_name, weights.embedding);
  }
  int number = config.stage().first;
  for (const MoeDecoderLayerWeights& layer : weights.layers) {
    visit_layer(config, "model.layers." + std::to_string(number), layer, visitor);
    ++number;
  }
  if (!config.is_last_stage()) {
    return;
  }
  visitor.replicated(MoeDecoderPart::norms, "model.norm.weight", weights.final_norm);
  if (!weights.lm_head.is_same(weights.embedding)) {
    visitor.replicated(MoeDecoderPart::lm_head, weights.lm_head_name, weights.lm_head);
  }
}

MoeDecoderWeights read_decoder(const MoeDecoderConfig& config,
                               WeightSource& source,
                               const ModelPlacement& placement) {
  MoeDecoderWeights weights = allocate_decoder(config, placement);
  if (config.tie_word_embeddings) {
    tie_what_is_stored(source, weights);
  }
  const auto num_experts = static_cast<int>(config.num_experts);
  const int first_expert = num_experts / placement.ep_size * placement.ep_rank;
  visit_decoder(
      config,
      weights,
      {.replicated =
           [&](MoeDecoderPart /*part*/, const std::string& name, const at::Tensor& values) {
             source.read({.name = name,
                          .shape = values.sizes().vec(),
                          .first_row = 0,
                          .destination = values});
           },
       .experts =
           [&](const std::string& prefix, const ExpertWeights& experts) {
             read_experts(source, prefix, first_expert, num_experts, experts.gate_up, experts.down);
           }});
  if (config.tie_word_embeddings) {
    tie_what_is_equal(weights);
  }
  return weights;
}

std::vector<MemoryPart> memory_of_decoder(const MoeDecoderConfig& config,
                                          const MoeDecoderWeights& weights) {
  std::vector<MemoryPart> parts;
  const std::vector<std::pair<const char*, std::optional<Phase>>> names = {
      {"embedding", std::nullopt},  // a row for each token
      {"norms", std::nullopt},      // of several phases, and small
      {"attention", Phase::attention},
      {"router", Phase::route},
      {"experts", Phase::experts},
      {"shared experts", Phase::shared_experts},
      {"dense layers", Phase::mlp},
      {kLmHeadPart,
       std::nullopt}};  // where logits are asked for; the embedding, where they are tied
  parts.reserve(names.size());
  for (const auto& [name, phase] : names) {
    parts.push_back({name, 0, phase});
  }
  const auto add = [&](MoeDecoderPart part, const at::Tensor& values) {
    parts.at(static_cast<std::size_t>(part)).bytes += static_cast<std::int64_t>(values.nbytes());
  };
  visit_decoder(config,
                weights,
                {.replicated = [&](MoeDecoderPart part,
                                   const std::string& /*name*/,
                                   const at::Tensor& values) { add(part, values); },
                 .experts =
                     [&](const std::string& /*prefix*/, const ExpertWeights& experts) {
                       add(MoeDecoderPart::experts, experts.gate_up);
                       add(MoeDecoderPart::experts, experts.down);
                     }});
  return parts;
}

}  // namespace dovetail
