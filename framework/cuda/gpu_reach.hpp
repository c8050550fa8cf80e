// Whose memory a GPU can map, put together from what CUDA and NVML say. Pure: neither is asked
// here.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace dovetail {

/// What one source says of the ways from a GPU to others.
struct GpuWays {
  std::map<std::string, bool> reaches;  ///< by uuid, as VisibleGpu has it: whether it maps theirs
  std::string problem;                  ///< why nothing is said of others; empty = they are all
};

/// The same of all sources.
struct GpuReach {
  std::vector<std::string> reached;  ///< uuids of GPUs whose memory it can map, its own included
  std::vector<std::string> apart;    ///< of those whose memory it cannot map
  std::string unseen;                ///< why nothing is known of any other GPU
};

/// CUDA knows best, and sees the GPUs only that it was shown; NVML also sees the others of the
/// host, unless they are hidden from the whole process.
GpuReach merge_ways(const std::string& own_uuid, const GpuWays& cuda, const GpuWays& nvml);

/// NVML's "GPU-01234567-89AB-..." as CUDA's bytes in hexadecimal, which VisibleGpu has.
std::string bare_uuid(std::string_view nvml_uuid);

}  // namespace dovetail
