// A kernel that says where and when its blocks ran.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace dovetail::test {

/// More than any GPU has.
inline constexpr int kMostSms = 512;

/// Threads of a block: two fill an SM of compute capability 9.0.
inline constexpr int kProbeThreads = 1024;

/// What the blocks of a launch have written; device memory. Before the launch: blocks_of_sm zero,
/// first_start the largest number, last_start zero.
struct SmProbe {
  std::int32_t* blocks_of_sm = nullptr;  ///< [kMostSms]
  std::int64_t* first_start = nullptr;   ///< [1] ns of the device's clock
  std::int64_t* last_start = nullptr;    ///< [1]
};

/// `blocks` blocks, each of which spins for `spin_ns`. Asynchronous on `stream`; may be captured.
void launch_sm_probe(const SmProbe& probe, int blocks, std::int64_t spin_ns, cudaStream_t stream);

}  // namespace dovetail::test
