// The GPUs of this machine, for `dovetail info` and for the choice of a device. Empty in a build
// without CUDA.
#pragma once

#include <string>
#include <vector>

namespace dovetail {

/// A line on each GPU: name, memory, compute capability. Never throws: no driver means no devices.
std::vector<std::string> gpu_descriptions();

/// "CUDA 13.0 (driver: none), NCCL 2.28.9 (compiled for 2.28.9): <its file>", or "built without
/// CUDA".
std::string cuda_versions();

}  // namespace dovetail
