// Qwen3-MoE on one rank: the phases of a step, joined from the layers.
#pragma once

#include <cstdint>
#include <memory>

#include "framework/step/model.hpp"
#include "models/layers/rotary.hpp"
#include "models/qwen3_moe_config.hpp"
#include "models/qwen3_moe_weights.hpp"

namespace dovetail {

class Qwen3MoeModel final : public Model {
 public:
  /// Reads the weights; see Architecture::make_model.
  Qwen3MoeModel(Qwen3MoeConfig config,
                ModelShape shape,
                const ModelDims& dims,
                WeightSource& source,
                const ModelPlacement& placement);

  /// The weights of `other`, which both hold from then on, with these numerics.
  Qwen3MoeModel(const Qwen3MoeModel& other, Numerics numerics);

  std::unique_ptr<Model> with_numerics(Numerics numerics) const override;

  const ModelShape& shape() const override { return shape_; }

  const ModelDims& dims() const override { return dims_; }

  WeightsDigest weights_digest() const override;
  std::int64_t weight_bytes() const override;

  void embed(UbatchState& state) const override;
  void attention(int layer, UbatchState& state, KvCache& cache) const override;
  void route(int layer, UbatchState& state, const at::Tensor& replay_ids) const override;
  at::Tensor experts(int layer, const ExpertRows& rows) const override;
  void shared_experts(int layer, UbatchState& state) const override;
  void mlp(int layer, UbatchState& state) const override;
  void add_moe(int layer, UbatchState& state, const at::Tensor& combined) const override;
  at::Tensor output(const UbatchState& state) const override;
  at::Tensor logits(const at::Tensor& normed) const override;

 private:
  const Qwen3MoeLayerWeights& layer_weights(int layer) const;
  const Qwen3MoeLayerWeights& moe_layer_weights(int layer) const;

  Qwen3MoeConfig config_;
  ModelShape shape_;
  ModelDims dims_;
  AttentionDims attention_dims_;
  int first_expert_;
  Qwen3MoeWeights weights_;
  Rotary rotary_;
  Numerics numerics_ = Numerics::fast;
};

}  // namespace dovetail
