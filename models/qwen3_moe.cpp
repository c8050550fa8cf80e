#include "models/qwen3_moe.hpp"

#include <utility>

#include "framework/base/check.hpp"
#include "framework/base/error.hpp"
#include "models/qwen3_moe_model.hpp"
#include "models/qwen3_moe_weights.hpp"

namespace dovetail {
namespace {

ModelShape shape_of(const Qwen3MoeConfig& config) {
  ModelShape shape;
  for (const bool is_moe : config.is_moe_layer) {
    shape.layers.push_back(
        {.is_moe = is_moe, .has_shared_experts = is_moe && config.n_shared_experts > 0});
  }
  return shape;
}

ModelDims dims_of(const Qwen3MoeConfig& config) {
  return {.hidden = config.hidden_size,
          .vocabulary = config.vocab_size,
          .kv_heads = config.num_key_value_heads,
          .head_dim = config.head_dim,
          .num_experts = static_cast<int>(config.num_experts),
          .top_k = static_cast<int>(config.num_experts_per_tok),
          .dtype = at::kFloat};
}

void check_placement(const Qwen3MoeConfig& config, const ModelPlacement& placement) {
  DOVETAIL_CHECK(
      placement.ep_size >= 1 && placement.ep_rank >= 0 && placement.ep_rank < placement.ep_size,
      "ep_rank outside the ep group");
  if (config.num_experts % placement.ep_size != 0) {
    throw InputError("the model's " + std::to_string(config.num_experts) +
                     " experts cannot be spread evenly over " + std::to_string(placement.ep_size) +
                     " ranks; allowed for expert_parallel: a divisor of " +
                     std::to_string(config.num_experts));
  }
}

}  // namespace

Qwen3MoeArchitecture::Qwen3MoeArchitecture(Qwen3MoeConfig config)
    : config_(std::move(config)), shape_(shape_of(config_)), dims_(dims_of(config_)) {}

std::vector<MemoryPart> Qwen3MoeArchitecture::weight_memory(const ModelPlacement& placement) const {
  check_placement(config_, placement);
  ModelPlacement nowhere = placement;
  nowhere.device = at::kMeta;
  return memory_of_qwen3_moe(config_, allocate_qwen3_moe(config_, nowhere));
}

std::unique_ptr<Model> Qwen3MoeArchitecture::make_model(WeightSource& weights,
                                                        const ModelPlacement& placement) const {
  check_placement(config_, placement);
  return std::make_unique<Qwen3MoeModel>(config_, shape_, dims_, weights, placement);
}

std::unique_ptr<Architecture> make_qwen3_moe(const std::string& config_path) {
  return std::make_unique<Qwen3MoeArchitecture>(read_qwen3_moe_config(config_path));
}

}  // namespace dovetail
