#include "models/registry.hpp"

#include "models/qwen3_moe.hpp"

namespace dovetail {

const Registry<ArchitectureFactory>& architectures() {
  static const Registry<ArchitectureFactory> all = [] {
    Registry<ArchitectureFactory> registry("architecture");
    registry.add("qwen3_moe",
                 "Qwen3-MoE: grouped-query attention with q/k norm, softmax top-k experts",
                 make_qwen3_moe);
    return registry;
  }();
  return all;
}

}  // namespace dovetail
