// What a build without CUDA says where a GPU is asked for.
#include "framework/base/error.hpp"
#include "framework/step/cuda/cuda_driver.hpp"
#include "framework/step/cuda/gpu_device.hpp"

namespace dovetail {
namespace {

[[noreturn]] void refuse() {
  throw InputError("this build has no CUDA; allowed for execution.device: auto, cpu");
}

}  // namespace

std::unique_ptr<GpuDevice> make_gpu_device(const RankContext& /*context*/) {
  refuse();
}

std::unique_ptr<StepDriver> make_cuda_driver(const PolicyRunContext& /*context*/,
                                             FaultHook* /*fault*/) {
  refuse();
}

}  // namespace dovetail
