#include "framework/cuda/devices.hpp"

#include <filesystem>
#include <system_error>

#ifdef DOVETAIL_WITH_CUDA
#include <array>
#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

#include "framework/base/text.hpp"
#include "framework/cuda/nccl_version.hpp"
#include "framework/cuda/nvml.hpp"
#endif

namespace dovetail {

#ifdef DOVETAIL_WITH_CUDA

namespace {

std::string cuda_version(int version) {
  return version == 0 ? "none"
                      : std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string describe(const cudaUUID_t& uuid) {
  std::array<std::uint64_t, 2> halves{};
  for (std::size_t i = 0; i < sizeof uuid.bytes; ++i) {
    auto& half = halves[i / sizeof(std::uint64_t)];
    half = half << 8U | static_cast<unsigned char>(uuid.bytes[i]);
  }
  return hexadecimal(halves[0]) + hexadecimal(halves[1]);
}

}  // namespace

std::vector<VisibleGpu> visible_gpus() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    return {};
  }
  std::vector<VisibleGpu> gpus;
  for (int device = 0; device < count; ++device) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, device) == cudaSuccess) {
      gpus.push_back({.uuid = describe(properties.uuid),
                      .description = std::string(properties.name) + ", " +
                                     std::to_string(properties.totalGlobalMem >> 30) +
                                     " GiB, compute " + std::to_string(properties.major) + "." +
                                     std::to_string(properties.minor),
                      .memory_bytes = static_cast<std::int64_t>(properties.totalGlobalMem),
                      .is_slice = std::string(properties.name).find(" MIG ") != std::string::npos});
    }
  }
  return gpus;
}

GpuReach reach_of_gpu(int ordinal) {
  const auto gpus = visible_gpus();
  const auto& own = gpus.at(static_cast<std::size_t>(ordinal));
  GpuWays seen;
  for (int device = 0; device < static_cast<int>(gpus.size()); ++device) {
    int can = device == ordinal ? 1 : 0;
    if (can == 0 && cudaDeviceCanAccessPeer(&can, ordinal, device) != cudaSuccess) {
      can = 0;
    }
    seen.reaches[gpus[static_cast<std::size_t>(device)].uuid] = can != 0;
  }
  if (own.is_slice) {
    return merge_ways(own.uuid, seen, {.reaches = {}, .problem = "it is a slice of a card (MIG)"});
  }
  // NVML takes some 10 ms, and tells nothing new where CUDA shows all GPUs.
  const bool sees_all = num_installed_gpus() == static_cast<int>(gpus.size());
  return merge_ways(own.uuid, seen, sees_all ? GpuWays{} : ways_by_nvml(own.uuid));
}

std::string cuda_problem() {
  int count = 0;
  const auto status = cudaGetDeviceCount(&count);
  return status == cudaSuccess && count > 0
             ? ""
             : std::string("CUDA says: ") +
                   cudaGetErrorString(status == cudaSuccess ? cudaErrorNoDevice : status);
}

std::string cuda_versions() {
  int runtime = 0;
  int driver = 0;
  cudaRuntimeGetVersion(&runtime);
  cudaDriverGetVersion(&driver);
  return "CUDA " + cuda_version(runtime) + " (driver: " + cuda_version(driver) + "), " +
         describe(find_nccl());
}

std::string loaded_nccl() {
  return nccl_version_text(find_nccl().loaded);
}

#else

std::vector<VisibleGpu> visible_gpus() {
  return {};
}

GpuReach reach_of_gpu(int /*ordinal*/) {
  return {};
}

std::string cuda_problem() {
  return "this build has no CUDA";
}

std::string loaded_nccl() {
  return "none";
}

std::string cuda_versions() {
  return "built without CUDA";
}

#endif

int num_installed_gpus() {
  namespace fs = std::filesystem;
  std::error_code error;
  int count = 0;
  for (fs::directory_iterator gpu("/proc/driver/nvidia/gpus", error), end; !error && gpu != end;
       gpu.increment(error)) {
    ++count;
  }
  return count;
}

}  // namespace dovetail
