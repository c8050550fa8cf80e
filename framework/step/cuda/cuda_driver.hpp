// The driver of GPU ranks: frames, eager steps, captured steps.
#pragma once

#include <memory>

#include "framework/step/step_driver.hpp"

namespace dovetail {

/// See make_step_driver. Throws InputError in a build without CUDA.
std::unique_ptr<StepDriver> make_cuda_driver(const PolicyRunContext& context, FaultHook* fault);

}  // namespace dovetail
