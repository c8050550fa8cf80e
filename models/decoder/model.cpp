#include "models/decoder/model.hpp"

#include <string>
#include <utility>

#include <ATen/ops/add.h>
#include <ATen/ops/index_select.h>

#include "framework/base/check.hpp"
#include "models/layers/products.hpp"
#include "models/layers/rms_norm.hpp"
#include "models/layers/router.hpp"
#include "models/layers/times_sigmoid.hpp"
#include "models/weights/digest.hpp"

namespace dovetail {

MoeDecoderModel::MoeDecoderModel(MoeDecoderConfig config,
                                 ModelShape shape,
                                 const ModelDims& dims,
                                 WeightSource& source,
                                 const ModelPlacement& placement)
    : config_(std::move(config)),
      shape_(std::move(shape)),
      dims_(dims),
      attention_dims_({.heads = config_.num_attention_heads,
                       .kv_heads = config_.num_key_value_heads,
                       .head_dim = config_.head_dim,
                       .norm_epsilon = config_.rms_norm_eps}),
      first_expert_(dims.num_experts / placement.ep_size * placement.ep_rank),
      weights_(read_decoder(config_, source, placement)),
      rotary_(config_.turned_dim(), config_.rope, placement.device) {
  dims_.dtype = placement.dtype;
}

MoeDecoderModel::MoeDecoderModel(const MoeDecoderModel& other, Numerics numerics)
    : config_(other.config_),
      shape_(other.shape_),
      dims_(other.dims_),
      attention_dims_(other.attention_dims_),
      first_expert_(other.first_expert_),
      weights_(other.weights_),
      rotary_(other.rotary_),
      numerics_(numerics) {}

std::unique_ptr<Model> MoeDecoderModel::with_numerics(Numerics numerics) const {
  return std::make_unique<MoeDecoderModel>(*this, numerics);
}

WeightsDigest MoeDecoderModel::weights_digest() const {
  WeightsDigest digest;
  visit_decoder(
      config_,
      weights_,
      {.replicated =
           [&](MoeDecoderPart /*part*/, const std::string& name, const at::Tensor& values) {
             digest.replicated += parameter_digest(name, values);
           },
       .experts =
           [&](const std::string& prefix, const ExpertWeights& experts) {
             digest.experts += experts_digest(prefix, first_expert_, experts.gate_up, experts.down);
           }});
  return digest;
}

std::int64_t MoeDecoderModel::weight_bytes() const {
  std::int64_t bytes = 0;
  for (const MemoryPart& part : memory_of_decoder(config_, weights_)) {
    bytes += part.bytes;
  }
  return bytes;
}

void MoeDecoderModel::embed(UbatchState& state) const {
  const UbatchInputs& inputs = state.inputs;
  if (inputs.embeds.defined()) {
    DOVETAIL_CHECK(inputs.embeds.dim() == 2 && inputs.embeds.size(0) == inputs.num_tokens &&
                       inputs.embeds.size(1) == dims_.hidden,
                   "embeds must be [tokens, hidden]");
    DOVETAIL_CHECK(inputs.embeds.scalar_type() == dims_.dtype, "embeds have another dtype");
    state.hidden = inputs.embeds;
  } else {
    DOVETAIL_CHECK(dims_.is_first_stage, "a stage behind another reads embeds");
    DOVETAIL_CHECK_EQ(inputs.input_ids.size(0), inputs.num_tokens);
    state.hidden = at::index_select(weights_.embedding, 0, inputs.input_ids);
  }
  state.rotary = rotary_.table(state.inputs.positions, dims_.dtype, numerics_);
}

void MoeDecoderModel::attention(int layer, UbatchState& state, KvCache& cache) const {
  const MoeDecoderLayerWeights& weights = layer_weights(layer);
  const at::Tensor normed =
      rms_norm(state.hidden, weights.input_norm, config_.rms_norm_eps, numerics_);
  const auto index = static_cast<std::size_t>(layer);
  if (config_.latent) {
    state.hidden = latent_attention(*config_.latent,
                                    weights.latent_attention,
                                    normed,
                                    state.rotary,
                                    state.inputs,
                                    cache.latents.at(index),
                                    numerics_)
                       .add_(state.hidden);
    return;
  }
  state.hidden = self_attention(attention_dims_,
                                weights.attention,
                                normed,
                                state.rotary,
                                state.inputs,
                                cache.keys.at(index),
                                cache.values.at(index),
                                numerics_)
                     .add_(state.hidden);
}

void MoeDecoderModel::route(int layer, UbatchState& state, const at::Tensor& replay_ids) const {
  const MoeDecoderLayerWeights& weights = moe_layer_weights(layer);
  state.moe_input =
      rms_norm(state.hidden, weights.post_attention_norm, config_.rms_norm_eps, numerics_);
  state.router_logits = dims_.has_float32_router
                            ? project_to_float32(state.moe_input, weights.router, numerics_)
                            : project(state.moe_input, weights.router, at::Tensor(), numerics_);
  const Routing routing = route_tokens(state.router_logits,
                                       weights.router_bias,
                                       replay_ids,
                                       state.inputs.slot_mapping,
                                       config_.router,
                                       numerics_,
                                       dims_.dtype);
  state.expert_ids = routing.expert_ids;
  state.weights = routing.weights;
  state.natural_ids = routing.natural_ids;
  state.router_scores = routing.scores;
  state.shared_output.reset();
}

at::Tensor MoeDecoderModel::experts(int layer, const ExpertRows& rows) const {
  return run_experts(moe_layer_weights(layer).experts, rows, numerics_);
}

void MoeDecoderModel::shared_experts(int layer, UbatchState& state) const {
  const MoeDecoderLayerWeights& weights = moe_layer_weights(layer);
  DOVETAIL_CHECK(weights.shared_experts.down.defined(), "the model has no shared experts");
  state.shared_output = gated_mlp(weights.shared_experts, state.moe_input, numerics_);
  if (weights.shared_expert_gate.defined()) {
    const at::Tensor gate =
        project(state.moe_input, weights.shared_expert_gate, at::Tensor(), numerics_);
    state.shared_output = times_sigmoid(state.shared_output, gate, numerics_);
  }
}

void MoeDecoderModel::mlp(int layer, UbatchState& state) const {
  const MoeDecoderLayerWeights& weights = layer_weights(layer);
  DOVETAIL_CHECK(weights.mlp.down.defined(), "the layer is not dense");
  const at::Tensor normed =
      rms_norm(state.hidden, weights.post_attention_norm, config_.rms_norm_eps, numerics_);
  state.hidden = gated_mlp(weights.mlp, normed, numerics_).add_(state.hidden);
}

void MoeDecoderModel::add_moe(int layer, UbatchState& state, const at::Tensor& combined) const {
  const bool has_shared = moe_layer_weights(layer).shared_experts.down.defined();
  DOVETAIL_CHECK_EQ(state.shared_output.defined(), has_shared);
  // The feed-forward's two halves first, as the sum is rounded in reduced precision.
  const at::Tensor sum = has_shared ? at::add(combined, state.shared_output) : combined;
  state.hidden = at::add(state.hidden, sum);
}

at::Tensor MoeDecoderModel::output(const UbatchState& state) const {
  return dims_.is_last_stage
             ? rms_norm(state.hidden, weights_.final_norm, config_.rms_norm_eps, numerics_)
             : state.hidden;
}

at::Tensor MoeDecoderModel::logits(const at::Tensor& normed) const {
  DOVETAIL_CHECK(dims_.is_last_stage, "only the last stage has logits");
  return project(normed, weights_.lm_head, at::Tensor(), numerics_);
}

const MoeDecoderLayerWeights& MoeDecoderModel::layer_weights(int layer) const {
  return weights_.layers.at(static_cast<std::size_t>(layer));
}

const MoeDecoderLayerWeights& MoeDecoderModel::moe_layer_weights(int layer) const {
  const MoeDecoderLayerWeights& weights = layer_weights(layer);
  DOVETAIL_CHECK(weights.router.defined(), "the layer is dense");
  return weights;
}

}  // namespace dovetail
