#include "models/registry.hpp"

#include <variant>

#include "models/deepseek_v2.hpp"
#include "models/deepseek_v3.hpp"
#include "models/glm4_moe.hpp"
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
    registry.add("deepseek_v2",
                 "DeepSeek-V2: latent attention, softmax top-k experts of a few groups, shared "
                 "experts",
                 make_deepseek_v2);
    registry.add("deepseek_v3",
                 "DeepSeek-V3: latent attention, biased sigmoid top-k experts of a few "
                 "groups, shared experts",
                 make_deepseek_v3);
    registry.add("glm4_moe",
                 "GLM-4.5: grouped-query attention, biased sigmoid top-k experts, shared experts",
                 make_glm4_moe);
    registry.add("kimi_k2", "Kimi-K2: as deepseek_v3", make_deepseek_v3);
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
