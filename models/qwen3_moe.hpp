// The architecture qwen3_moe: Qwen3-MoE models as published (e.g. Qwen/Qwen3-30B-A3B), whole or a
// range of their layers. Reference: modeling_qwen3_moe.py of transformers 5.17, and for M-RoPE
// modeling_qwen3_vl_moe.py.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "framework/config/experiment.hpp"
#include "framework/step/architecture.hpp"
#include "models/qwen3_moe_config.hpp"

namespace dovetail {

class Qwen3MoeArchitecture final : public Architecture {
 public:
  explicit Qwen3MoeArchitecture(Qwen3MoeConfig config);

  const ModelShape& shape() const override { return shape_; }

  const ModelDims& dims() const override { return dims_; }

  const Qwen3MoeConfig& config() const { return config_; }

  std::string config_dtype() const override { return config_.published_dtype; }

  std::vector<MemoryPart> weight_memory(const ModelPlacement& placement) const override;
  void check_weights(WeightSource& weights, const ModelPlacement& placement) const override;
  std::unique_ptr<Model> make_model(WeightSource& weights,
                                    const ModelPlacement& placement) const override;

 private:
  Qwen3MoeConfig config_;
  ModelShape shape_;
  ModelDims dims_;
};

/// Reads the config.json. Throws InputError naming file and key, also for layers that the model
/// does not have.
std::unique_ptr<Architecture> make_qwen3_moe(const ModelConfig& model);

}  // namespace dovetail
