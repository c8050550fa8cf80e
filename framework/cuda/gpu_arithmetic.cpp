#include "framework/cuda/gpu_arithmetic.hpp"

#include <ATen/Context.h>

#include "framework/cuda/quiet_torch.hpp"

namespace dovetail {

void set_gpu_arithmetic() {
  const QuietTorch quiet;
  auto& torch = at::globalContext();
  torch.setAllowTF32CuBLAS(false);
  torch.setAllowTF32CuDNN(false);
  torch.setBlasPreferredBackend(at::BlasBackend::Cublaslt);
  torch.setSDPUseCuDNN(false);
  torch.setSDPUseMemEfficient(false);
}

}  // namespace dovetail
