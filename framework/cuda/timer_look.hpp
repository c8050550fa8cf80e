// Kernels that look at the clock that time stamps are read from.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace dovetail {

/// One thread writes the time to `word` (device memory). Asynchronous on `stream`.
void launch_timer_look(std::uint64_t* word, cudaStream_t stream);

/// One thread looks at the clock for some 20 us, less than 0.1 s on any device, and writes the
/// smallest step in which it moved on to `word` (device memory), in ns; 0 = it stood still.
/// Asynchronous on `stream`.
void launch_timer_step(std::uint64_t* word, cudaStream_t stream);

}  // namespace dovetail
