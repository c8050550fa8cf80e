// Bounded waits of the host for what it enqueued on a GPU.
#pragma once

#include <string_view>

#include <c10/core/Device.h>
#include <c10/cuda/CUDAEvent.h>

#include "framework/mpi/wait.hpp"

namespace dovetail {

/// Returns when the event has happened (at once where it was never recorded). Throws TimeoutError
/// "<what>: not done within <timeout>", what on_poll throws, or the device's error as c10::Error.
void wait_for_event(const c10::cuda::CUDAEvent& event,
                    const WaitPolicy& policy,
                    std::string_view what);

/// The same for all that the current stream of a CUDA device holds now.
void wait_for_current_stream(at::Device device, const WaitPolicy& policy, std::string_view what);

}  // namespace dovetail
