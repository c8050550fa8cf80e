// A decoder on one rank: the phases of a step, joined from the layers.
#pragma once

#include <cstdint>
#include <memory>

#include "framework/step/model.hpp"
#include "models/decoder/config.hpp"
#include "models/decoder/weights.hpp"
#include "models/layers/rotary.hpp"

namespace dovetail {

class MoeDecoderModel final : public Model {
 public:
  /// Reads the weights; see Architecture::make_model.
  MoeDecoderModel(MoeDecoderConfig config,
                  ModelShape shape,
                  const ModelDims& dims,
                  WeightSource& source,
                  const ModelPlacement& placement);

  /// The weights of `other`, which both hold from then on, with these numerics.
  MoeDecoderModel(const MoeDecoderModel& other, Numerics numerics);

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
  const MoeDecoderLayerWeights& layer_weights(int layer) const;
  const MoeDecoderLayerWeights& moe_layer_weights(int layer) const;

  MoeDecoderConfig config_;
  ModelShape shape_;
  ModelDims dims_;
  AttentionDims attention_dims_;  // where attention is not over latents
  int first_expert_;
  MoeDecoderWeights weights_;
  Rotary rotary_;
  Numerics numerics_ = Numerics::fast;
};

}  // namespace dovetail
