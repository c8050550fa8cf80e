// What this build can run, for the validation of experiments.
#pragma once

#include <string>
#include <vector>

#include "framework/config/validate.hpp"

namespace dovetail {

/// Names of everything that is registered; the architectures are those that launch has handed in.
Capabilities build_capabilities(std::vector<std::string> architectures);

/// The same for what is planned and not run: GPUs are known in a build without CUDA, too.
Capabilities planning_capabilities(std::vector<std::string> architectures);

}  // namespace dovetail
