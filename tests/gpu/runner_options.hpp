// Step runners for the tests of the executor and of captures.
#pragma once

#include <chrono>

#include "framework/step/cuda/step_runner.hpp"
#include "tests/gpu/gpu_test.hpp"

namespace dovetail::test {

inline CudaExecutorOptions own_gpu(std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
  CudaExecutorOptions options;
  options.device = static_cast<c10::DeviceIndex>(host_place().index);
  options.timeout = timeout;
  return options;
}

inline RunnerOptions walk_by(HandOff hand_off) {
  RunnerOptions options;
  options.hand_off = hand_off;
  options.timeout = std::chrono::seconds(20);
  return options;
}

inline constexpr HandOff kHandOffs[] = {HandOff::threads, HandOff::inline_walk};
inline constexpr GraphMode kGraphModes[] = {GraphMode::full, GraphMode::piecewise};
inline constexpr PassKind kPasses[] = {PassKind::full, PassKind::compute_only, PassKind::comm_only};

}  // namespace dovetail::test
