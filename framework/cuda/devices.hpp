// The GPUs that this process sees, for `dovetail info` and for the choice of a device. None in a
// build without CUDA.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/cuda/gpu_reach.hpp"

namespace dovetail {

struct VisibleGpu {
  std::string uuid;  ///< of the card, in hexadecimal: equal for all processes of a host
  std::string
      description;  ///< name, memory, compute capability: "NVIDIA H200, 139 GiB, compute 9.0"
  std::int64_t memory_bytes = 0;  ///< all of it, free or not
  bool is_slice = false;          ///< a part of a card (MIG): its name says so
};

/// In the order of CUDA's numbers, which CUDA_VISIBLE_DEVICES decides. Never throws: no driver
/// means no GPUs.
std::vector<VisibleGpu> visible_gpus();

/// Whose memory GPU `ordinal` can map, of the GPUs that this process sees and of those of its host
/// that it does not: a launcher may show each rank its own only.
GpuReach reach_of_gpu(int ordinal);

/// What CUDA says where it finds no GPU, or that this build has no CUDA; empty = it finds some.
std::string cuda_problem();

/// Version of the NCCL that this process has loaded, "2.28.9"; "none" in a build without CUDA.
std::string loaded_nccl();

/// GPUs of this host that the driver has, whether this process sees them or not. Does not ask CUDA.
int num_installed_gpus();

/// "CUDA 13.0 (driver: none), NCCL 2.28.9 (compiled for 2.28.9): <its file>", or "built without
/// CUDA".
std::string cuda_versions();

}  // namespace dovetail
