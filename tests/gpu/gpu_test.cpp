#include "tests/gpu/gpu_test.hpp"

#include <cuda_runtime_api.h>

#include "framework/base/check.hpp"
#include "tests/support/mpi_world.hpp"

namespace dovetail::test {

int num_gpus() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

void use_own_gpu() {
  DOVETAIL_CHECK(cudaSetDevice(session().local_rank()) == cudaSuccess, "cudaSetDevice failed");
}

}  // namespace dovetail::test
