#include "models/registry.hpp"

#include <variant>

#include "models/mixtral.hpp"
#include "models/qwen2_moe.hpp"
#include "models/qwen3_moe.hpp"
#include "models/weights/checkpoint.hpp"
#include "models/weights/seeded.hpp"

namespace dovetail {
namespace {

std::unique_ptr<WeightSource> open_weights(const WeightsConfig& weights) {
  if (const auto* checkpoint = std::get_if<CheckpointWeights>(&weights)) {
    return std::make_unique<CheckpointSource>(checkpoint->folder);
  }
  return std::make_unique<SeededSource>(std::get<SeedWeights>(weights).seed);
}

}  // namespace

const Registry<ArchitectureFactory>& architectures() {
  static const Registry<ArchitectureFactory> all = [] {
    Registry<ArchitectureFactory> registry("architecture");
    registry.add(
        "mixtral", "Mixtral: grouped-query attention, softmax top-k experts", make_mixtral);
    registry.add("qwen2_moe",
                 "Qwen2-MoE: grouped-query attention with biases, softmax top-k experts, gated "
                 "shared expert",
                 make_qwen2_moe);
    registry.add("qwen3_moe",
                 "Qwen3-MoE: grouped-query attention with q/k norm, softmax top-k experts",
                 make_qwen3_moe);
    return registry;
  }();
  return all;
}

ModelCatalog model_catalog() {
  return {architectures(), open_weights};
}

}  // namespace dovetail
