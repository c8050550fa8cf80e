#include "framework/cuda/num_sms.hpp"

#include <cuda_runtime_api.h>

#include "framework/cuda/check.hpp"

namespace dovetail {

int num_sms() {
  int device = 0;
  int count = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  check_cuda(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device),
             "cudaDeviceGetAttribute");
  return count;
}

}  // namespace dovetail
