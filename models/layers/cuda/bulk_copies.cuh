// Copies of boxes of a matrix to shared memory by the copy engine (TMA), and clusters of two blocks
// that share what they copy. PTX ISA 8.7, section 9.7.9.25 (bulk copies).
#pragma once

#include <cstdint>

#include <cuda.h>

#include "models/layers/cuda/wgmma.cuh"

namespace dovetail::gpu {

inline constexpr unsigned kTwins = 2;  // blocks of a cluster

__device__ __forceinline__ unsigned twin_rank() {
  unsigned rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

/// Until all threads of the cluster are here. What they did to barriers before is seen behind it;
/// a block may not end while its twin can still arrive at its barriers.
__device__ __forceinline__ void meet_twin() {
  __syncwarp();
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;" ::
          : "memory");
}

/// Barriers that this thread has initialized become visible to copies, and to the twin behind
/// meet_twin.
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/// For L2: what a copy brought in goes first.
__device__ __forceinline__ std::uint64_t evict_first() {
  std::uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

/// Begins the copy of a box from (row, column) on; `there` counts its bytes. kForTwins: to the same
/// place in both blocks of the cluster, and counted by both.
template <bool kForTwins>
__device__ __forceinline__ void begin_box(unsigned char* to,
                                          const CUtensorMap& from,
                                          int column,
                                          int row,
                                          SharedBarrier& there,
                                          std::uint64_t policy) {
  if constexpr (kForTwins) {
    constexpr std::uint16_t both = 3;
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
        ".multicast::cluster.L2::cache_hint [%0], [%1, {%2, %3}], [%4], %5, %6;" ::"r"(
            shared_address(to)),
        "l"(&from),
        "r"(column),
        "r"(row),
        "r"(shared_address(&there.state)),
        "h"(both),
        "l"(policy)
        : "memory");
  } else {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
        ".L2::cache_hint [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared_address(to)),
        "l"(&from),
        "r"(column),
        "r"(row),
        "r"(shared_address(&there.state)),
        "l"(policy)
        : "memory");
  }
}

/// The same of one plane of a matrix of three dimensions, for this block only.
__device__ __forceinline__ void begin_box_of_plane(unsigned char* to,
                                                   const CUtensorMap& from,
                                                   int column,
                                                   int row,
                                                   int plane,
                                                   SharedBarrier& there) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(shared_address(to)),
      "l"(&from),
      "r"(column),
      "r"(row),
      "r"(plane),
      "r"(shared_address(&there.state))
      : "memory");
}

/// Fetches the description of a matrix, so that the first box need not wait for it.
__device__ __forceinline__ void prefetch(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

}  // namespace dovetail::gpu
