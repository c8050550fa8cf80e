// Variables of the environment that take overlap away from GPU ranks, or bend its measurement.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace dovetail {

/// "CUDA_LAUNCH_BLOCKING=1: each launch waits until its kernel has ended", one for each variable
/// that is set so that it hinders. `variable`: its value, null = not set. Pure.
std::vector<std::string> overlap_hindrances(
    const std::function<const char*(const char* name)>& variable);

/// As the record has them: "none", or all joined.
std::string describe_hindrances(const std::vector<std::string>& hindrances);

}  // namespace dovetail
