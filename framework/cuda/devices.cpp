#include "framework/cuda/devices.hpp"

#ifdef DOVETAIL_WITH_CUDA
#include <cuda_runtime_api.h>

#include "framework/cuda/nccl_version.hpp"
#endif

namespace dovetail {

#ifdef DOVETAIL_WITH_CUDA

namespace {

std::string cuda_version(int version) {
  return version == 0 ? "none"
                      : std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string hexadecimal(const cudaUUID_t& uuid) {
  constexpr const char* digits = "0123456789abcdef";
  std::string text;
  for (const char byte : uuid.bytes) {
    text += digits[static_cast<unsigned char>(byte) >> 4U];
    text += digits[static_cast<unsigned char>(byte) & 15U];
  }
  return text;
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
      gpus.push_back({.uuid = hexadecimal(properties.uuid),
                      .description = std::string(properties.name) + ", " +
                                     std::to_string(properties.totalGlobalMem >> 30) +
                                     " GiB, compute " + std::to_string(properties.major) + "." +
                                     std::to_string(properties.minor)});
    }
  }
  return gpus;
}

std::string cuda_versions() {
  int runtime = 0;
  int driver = 0;
  cudaRuntimeGetVersion(&runtime);
  cudaDriverGetVersion(&driver);
  return "CUDA " + cuda_version(runtime) + " (driver: " + cuda_version(driver) + "), " +
         describe(find_nccl());
}

#else

std::vector<VisibleGpu> visible_gpus() {
  return {};
}

std::string cuda_versions() {
  return "built without CUDA";
}

#endif

}  // namespace dovetail
