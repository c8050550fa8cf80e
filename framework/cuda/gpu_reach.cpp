#include "framework/cuda/gpu_reach.hpp"

#include <cctype>

namespace dovetail {

GpuReach merge_ways(const std::string& own_uuid, const GpuWays& cuda, const GpuWays& nvml) {
  auto ways = cuda.reaches;
  ways.insert(nvml.reaches.begin(), nvml.reaches.end());  // keeps what CUDA says
  ways[own_uuid] = true;
  GpuReach reach;
  for (const auto& [uuid, reaches] : ways) {
    (reaches ? reach.reached : reach.apart).push_back(uuid);
  }
  reach.unseen = !nvml.problem.empty() ? nvml.problem
                                       : "neither CUDA nor NVML lists that one, but " +
                                             std::to_string(ways.size()) + " in all";
  return reach;
}

std::string bare_uuid(std::string_view nvml_uuid) {
  constexpr std::string_view prefix = "GPU-";
  if (nvml_uuid.substr(0, prefix.size()) == prefix) {
    nvml_uuid.remove_prefix(prefix.size());
  }
  std::string bare;
  for (const char c : nvml_uuid) {
    if (c != '-') {
      bare += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  return bare;
}

}  // namespace dovetail
