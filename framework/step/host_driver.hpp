// The driver of CPU ranks: a host executor over the batch's own tensors.
#pragma once

#include <memory>

#include "framework/step/step_driver.hpp"

namespace dovetail {

/// See make_step_driver.
std::unique_ptr<StepDriver> make_host_driver(const PolicyRunContext& context, FaultHook* fault);

}  // namespace dovetail
