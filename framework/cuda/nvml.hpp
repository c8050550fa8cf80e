// What the driver's library for management says of GPUs that CUDA does not show to this process.
#pragma once

#include <string>

#include "framework/cuda/gpu_reach.hpp"

namespace dovetail {

/// From the GPU of this uuid, as VisibleGpu has it, to the others of the host: each loads from and
/// stores to the other's memory. Asks NVML, which CUDA_VISIBLE_DEVICES does not blind; the library
/// is loaded for the call, and its absence is a problem like any other. Never throws but for
/// memory.
GpuWays ways_by_nvml(const std::string& uuid);

}  // namespace dovetail
