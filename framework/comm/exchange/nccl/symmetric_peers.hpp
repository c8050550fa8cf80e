// Where the windows of the other ranks are mapped, which NCCL tells to kernels only.
#pragma once

#include <cstddef>

#include <cuda_runtime_api.h>
#include <nccl.h>

namespace dovetail {

/// Writes the start of each rank's memory of `window` to `peers` [num_ranks], on the device.
/// Enqueued on `stream`. All ranks are in one team of load and store.
void launch_read_peers(ncclWindow_t window, int num_ranks, std::byte** peers, cudaStream_t stream);

}  // namespace dovetail
