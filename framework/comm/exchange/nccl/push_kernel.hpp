// The kernel of the exchange `symmetric`: stores rows into the memory of the other ranks and waits
// until theirs have come. For dispatch and combine; what differs is data.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

#include "framework/comm/exchange/nccl/block_layout.hpp"
#include "framework/comm/exchange/nccl/exchange_kernels.hpp"

namespace dovetail {

/// A run of bytes of a block: `fixed_bytes` (0 where the rows that travel do not begin with row 0),
/// and `row_bytes` for each row that travels; row 0 lies behind the fixed bytes. `begin` is a
/// multiple of 16. Up to 15 bytes ahead of the rows and behind them travel as well: what the peer
/// has got, or will be sent by a later call.
struct PushPart {
  std::int64_t begin = 0;
  std::int64_t fixed_bytes = 0;
  std::int64_t row_bytes = 0;
};

/// Which rows of the block of rank p travel: from word `p * stride` of `begins`, or 0 where that is
/// null, to the same word of `ends`.
struct PushRows {
  const std::int32_t* begins = nullptr;
  const std::int32_t* ends = nullptr;
  std::int64_t stride = 0;
};

/// All memory is on this device but that of the peers, which is mapped. CTA i waits for the CTAs i
/// of all peers: the ranks take the same number of CTAs, and what has come is whole when the kernel
/// has ended. Each call is a round: the flags count rounds on, so that replays need no reset.
struct PushArgs {
  int ep_size = 0;
  int ep_rank = 0;

  // Block p of `send` goes to block ep_rank of rank p.
  const std::byte* send = nullptr;  ///< [R] blocks
  std::int64_t block_bytes = 0;
  std::int64_t capacity = 0;          ///< rows of a block at most, whatever counts say
  PushRows rows_out;                  ///< known when the kernel begins
  PushRows rows_in;                   ///< read when all has come
  PushPart parts[2] = {};             ///< what rows_in reads has come with the first part of a call
  std::byte* const* peers = nullptr;  ///< [R] start of the symmetric memory of each rank
  std::int64_t receive_begin = 0;     ///< of [R] blocks, in the symmetric memory
  std::int64_t flags_begin = 0;       ///< FlagLayout, in the symmetric memory
  std::int64_t pull_begin = 0;        ///< of a pull: of [R] blocks there, in place of `send`
  std::uint32_t* rounds = nullptr;    ///< [kMostPushCtas] that have ended; of this rank alone
  bool awaits_peers_first = true;     ///< nothing is stored before the peers' kernels have begun
  bool combines = false;              ///< for what is counted and found
  int group = -1;                     ///< of experts; -1 = they are not cut
  int ubatch = 0;
  int layer = 0;

  // The wait. A kernel that gives up stores nothing more, and all later ones do nothing.
  std::uint64_t timeout_ns = 0;
  const std::uint32_t* abort_word = nullptr;  ///< on the host, mapped; not 0 = give up
  std::uint32_t* gave_up = nullptr;
  DeviceStatus* status = nullptr;
};

/// Enqueues on `stream`; may be captured. ctas: 1 to kMostPushCtas, equal on all ranks; at most 512
/// ranks.
void launch_push(const PushArgs& args, int ctas, cudaStream_t stream);

/// Loads blocks of parts[0].fixed_bytes from the peers, whose memory has them since before their
/// kernels began, and ends when all peers have loaded theirs. A ceiling to hold a push against; all
/// else as above.
void launch_pull(const PushArgs& args, int ctas, cudaStream_t stream);

}  // namespace dovetail
