#include "framework/cuda/device_binding.hpp"

#include <ATen/Context.h>
#include <ATen/cuda/CUDAContextLight.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <c10/core/InferenceMode.h>
#include <c10/cuda/CUDAGuard.h>

#include "framework/cuda/check.hpp"

namespace dovetail {

void bind_device(c10::DeviceIndex device) {
  at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
  check_cuda(cudaSetDevice(device), "choose a GPU");
}

void warm_up_blas(std::span<const c10::cuda::CUDAStream> streams) {
  const c10::InferenceMode inference;
  for (const auto& stream : streams) {
    const c10::cuda::CUDAStreamGuard guard(stream);
    static_cast<void>(at::cuda::getCurrentCUDABlasHandle());
    static_cast<void>(at::cuda::getCurrentCUDABlasLtHandle());
    static_cast<void>(at::cuda::getCUDABlasLtWorkspace());
    const auto options = at::TensorOptions().device(stream.device()).dtype(at::kBFloat16);
    const auto matrix = at::ones({64, 64}, options);
    static_cast<void>(at::mm(matrix, matrix));
    static_cast<void>(at::addmm(at::ones({64}, options), matrix, matrix));  // by cuBLASLt
  }
}

}  // namespace dovetail
