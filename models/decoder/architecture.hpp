// An Architecture for every model that is a MoeDecoderConfig, whole or a range of its layers.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "framework/config/experiment.hpp"
#include "framework/step/architecture.hpp"
#include "models/decoder/config.hpp"

namespace dovetail {

class MoeDecoderArchitecture final : public Architecture {
 public:
  explicit MoeDecoderArchitecture(MoeDecoderConfig config);

  const ModelShape& shape() const override { return shape_; }

  const ModelDims& dims() const override { return dims_; }

  const MoeDecoderConfig& config() const { return config_; }

  std::string config_dtype() const override { return config_.published_dtype; }

  std::vector<MemoryPart> weight_memory(const ModelPlacement& placement) const override;
  std::vector<MemoryPart> untied_memory(WeightSource& weights,
                                        const ModelPlacement& placement) const override;
  void check_weights(WeightSource& weights, const ModelPlacement& placement) const override;
  std::unique_ptr<Model> make_model(WeightSource& weights,
                                    const ModelPlacement& placement) const override;

 private:
  MoeDecoderConfig config_;
  ModelShape shape_;
  ModelDims dims_;
};

/// The architecture of `model`, whose config.json `config` was read from, for its range of layers.
/// Throws InputError for layers that the model does not have.
std::unique_ptr<Architecture> make_decoder(MoeDecoderConfig config, const ModelConfig& model);

}  // namespace dovetail
