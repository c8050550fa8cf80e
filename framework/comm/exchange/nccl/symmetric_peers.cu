#include "framework/comm/exchange/nccl/symmetric_peers.hpp"

#include <nccl_device.h>

#include "framework/cuda/check.hpp"

namespace dovetail {
namespace {

// The layout of a window is NCCL's own from version to version.
static_assert(NCCL_VERSION_CODE >= 22800 && NCCL_VERSION_CODE < 22900,
              "windows were read in NCCL 2.28");

__global__ void read_peers_kernel(ncclWindow_t window, int num_ranks, std::byte** peers) {
  for (int rank = static_cast<int>(threadIdx.x); rank < num_ranks; rank += 32) {
    peers[rank] = static_cast<std::byte*>(ncclGetLsaPointer(window, 0, rank));
  }
}

}  // namespace

void launch_read_peers(ncclWindow_t window, int num_ranks, std::byte** peers, cudaStream_t stream) {
  read_peers_kernel<<<1, 32, 0, stream>>>(window, num_ranks, peers);
  check_cuda(cudaGetLastError(), "launch of the look at the peers' memory");
}

}  // namespace dovetail
