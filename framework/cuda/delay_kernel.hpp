// Keeps a stream busy for a time that is stated, for faults that make ops late.
#pragma once

#include <chrono>

#include <cuda_runtime_api.h>

namespace dovetail {

/// What `stream` is given from now on starts at least `time` later than it would. A kernel of one
/// thread reads the device's clock until then; captured, it does so in each replay. It takes the
/// time stamp that is offered (time_stamp.hpp). Asynchronous. Throws RunError where it cannot be
/// launched.
void launch_delay(std::chrono::nanoseconds time, cudaStream_t stream);

}  // namespace dovetail
