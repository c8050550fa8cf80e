#include "framework/step/step_driver.hpp"

#include "framework/step/cuda/cuda_driver.hpp"
#include "framework/step/host_driver.hpp"
#include "framework/step/policy_context.hpp"

namespace dovetail {

std::unique_ptr<StepDriver> make_step_driver(const PolicyRunContext& context, FaultHook* fault) {
  return context.device.is_gpu() ? make_cuda_driver(context, fault)
                                 : make_host_driver(context, fault);
}

}  // namespace dovetail
