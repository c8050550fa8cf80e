// Memory of equal size on all ranks of a communicator that each of them can load from and store to
// over NVLink.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nccl.h>

#include "framework/comm/nccl/nccl_comm.hpp"
#include "framework/mpi/wait.hpp"

namespace dovetail {

/// Throws InputError that names the exchange, `name`, unless all ranks of `comm` can reach each
/// other's memory (one host, peer access between all GPUs). Collective; waits are bounded.
void require_symmetric_memory(NcclComm& comm, const std::string& name, const WaitPolicy& wait);

/// One allocation and one window of NCCL. Not for a stream that is captured.
class SymmetricMemory {
 public:
  /// Collective: equal `bytes` > 0 on all ranks, whose memory is zero when it returns. On the
  /// current device. Throws RunError, TimeoutError.
  SymmetricMemory(NcclComm& comm, std::int64_t bytes, const WaitPolicy& wait);

  /// Local. No kernel and no graph of this rank may use it any more, and the peers must have heard
  /// of the end of those kernels. The communicator must be there.
  ~SymmetricMemory();
  SymmetricMemory(const SymmetricMemory&) = delete;
  SymmetricMemory& operator=(const SymmetricMemory&) = delete;
  SymmetricMemory(SymmetricMemory&&) = delete;
  SymmetricMemory& operator=(SymmetricMemory&&) = delete;

  /// This rank's.
  std::byte* data() const { return data_; }

  /// On the device: where each rank's begins, [R]; the own one is the same memory as data().
  std::byte* const* peers() const;

  /// The same of one rank, as the host knows it: for copies.
  std::byte* peer(int rank) const { return on_host_.at(static_cast<std::size_t>(rank)); }

  /// Bytes [begin, begin + bytes) of this rank's as a tensor, uint8.
  at::Tensor view(std::int64_t begin, std::int64_t bytes) const;

 private:
  NcclComm& comm_;
  std::byte* data_ = nullptr;
  ncclWindow_t window_ = nullptr;
  at::Tensor peers_;  ///< int64 [R]
  std::vector<std::byte*> on_host_;
};

}  // namespace dovetail
