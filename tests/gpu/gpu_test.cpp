#include "tests/gpu/gpu_test.hpp"

#include <cuda_runtime_api.h>

#include "framework/base/check.hpp"

namespace dovetail::test {

int num_gpus() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

void use_own_gpu() {
  DOVETAIL_CHECK(cudaSetDevice(host_place().index) == cudaSuccess, "cudaSetDevice failed");
}

}  // namespace dovetail::test
