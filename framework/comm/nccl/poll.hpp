// Bounded waits for what the device or NCCL does.
#pragma once

#include <functional>
#include <string_view>

#include <cuda_runtime_api.h>

#include "framework/mpi/wait.hpp"

namespace dovetail {

/// Calls `done` until it answers true: at once and often at first, then with the policy's sleeps.
/// Throws TimeoutError "<what>: not done within N ms" at the deadline, and what `done` and
/// wait.on_poll throw.
void poll_until(const std::function<bool()>& done, const WaitPolicy& wait, std::string_view what);

/// Waits until `event` has been reached. Throws as poll_until does, and RunError for CUDA's errors.
/// Not for events that were recorded in a capture.
void wait_for_event(cudaEvent_t event, const WaitPolicy& wait, std::string_view what);

}  // namespace dovetail
