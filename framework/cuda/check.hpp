// Return codes of the CUDA runtime as exceptions.
#pragma once

#include <string>

#include <cuda_runtime_api.h>

#include "framework/base/error.hpp"

namespace dovetail {

/// Throws RunError "<what>: <CUDA's text>" unless `status` is success. After a launch:
/// check_cuda(cudaGetLastError(), "launch of <kernel>").
inline void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    throw RunError(std::string(what) + ": " + cudaGetErrorString(status));
  }
}

}  // namespace dovetail
