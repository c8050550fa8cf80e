#include "framework/comm/exchange/nccl/push_kernel.hpp"

#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/time_stamp.cuh"
#include "framework/cuda/time_stamp.hpp"

namespace dovetail {
namespace {

constexpr int kThreads = 512;
constexpr int kUnitsInFlight = 8;  ///< of 16 bytes, a thread
constexpr int kPollsPerLook = 64;  ///< at the clock and at the host's word

__device__ void store_relaxed(std::uint32_t* at, std::uint32_t value) {
  asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(at), "r"(value) : "memory");
}

/// All that the CTA has stored before its last barrier is seen by whoever sees this.
__device__ void store_release(std::uint32_t* at, std::uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(at), "r"(value) : "memory");
}

__device__ std::uint32_t load_acquire(const std::uint32_t* at) {
  std::uint32_t value = 0;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(at) : "memory");
  return value;
}

struct RowRange {
  std::int64_t begin;
  std::int64_t count;
};

/// Within what a block holds, whatever the words say.
__device__ RowRange rows_of(const PushArgs& args, const PushRows& rows, int peer) {
  const std::int64_t capacity = args.capacity;
  const std::int64_t end = rows.ends[peer * rows.stride];
  const std::int64_t begin = rows.begins == nullptr ? 0 : rows.begins[peer * rows.stride];
  const std::int64_t last = end < 0 ? 0 : end > capacity ? capacity : end;
  const std::int64_t first = begin < 0 ? 0 : begin > last ? last : begin;
  return {first, last - first};
}

/// The peer that a thread signals and waits for; peers are staggered by rank.
__device__ int peer_of(const PushArgs& args, int step) {
  return (args.ep_rank + step) % args.ep_size;
}

__device__ std::uint32_t* flag_at(const PushArgs& args, int owner, int setter) {
  auto* flags = reinterpret_cast<std::uint32_t*>(args.peers[owner] + args.flags_begin);
  return flags + blockIdx.x * FlagLayout{args.ep_size}.words_per_cta() + setter;
}

__device__ void report(const PushArgs& args, DeviceFinding finding, int peer) {
  auto& status = *args.status;
  if (atomicCAS(&status.finding, 0, static_cast<std::int32_t>(finding)) == 0) {
    status.ubatch = args.ubatch;
    status.layer = args.layer;
    status.destination = peer;
    status.combines = args.combines ? 1 : 0;
    status.group = args.group;
  }
}

/// One thread waits for one peer. Flags wrap around.
__device__ bool hear_from(const PushArgs& args, int peer, std::uint32_t value) {
  const auto* flag = flag_at(args, args.ep_rank, peer);
  std::uint64_t begin = 0;
  for (std::uint64_t polls = 1;; ++polls) {
    if (static_cast<std::int32_t>(load_acquire(flag) - value) >= 0) {
      return true;
    }
    if (polls % kPollsPerLook != 0) {
      continue;
    }
    const auto now = global_timer_ns();
    begin = begin == 0 ? now : begin;
    if (load_acquire(args.gave_up) != 0) {
      return false;
    }
    if (load_acquire(args.abort_word) != 0) {
      report(args, DeviceFinding::told_to_give_up, peer);
      return false;
    }
    if (now - begin > args.timeout_ns) {
      report(args, DeviceFinding::peer_is_late, peer);
      return false;
    }
  }
}

/// All threads: true once all peers have set the flag to `value` or beyond.
__device__ bool hear_from_all(const PushArgs& args, std::uint32_t value) {
  const int step = static_cast<int>(threadIdx.x) + 1;
  bool heard = true;
  if (step < args.ep_size) {
    heard = hear_from(args, peer_of(args, step), value);
  }
  const bool all = __syncthreads_and(heard ? 1 : 0) != 0;
  if (!all && threadIdx.x == 0) {
    store_relaxed(args.gave_up, 1);
  }
  return all;
}

/// This CTA's share of a run of bytes.
__device__ void copy_share(const std::byte* from, std::byte* to, std::int64_t bytes) {
  constexpr std::int64_t line = kBlockAlign / sizeof(uint4);
  const std::int64_t units = (bytes + 15) / 16;
  const std::int64_t ctas = gridDim.x;
  const std::int64_t share = ((units + ctas - 1) / ctas + line - 1) / line * line;
  const std::int64_t begin = blockIdx.x * share;
  const std::int64_t end = begin + share < units ? begin + share : units;
  const auto* in = reinterpret_cast<const uint4*>(from);
  auto* out = reinterpret_cast<uint4*>(to);
  for (auto i = begin + threadIdx.x; i < end; i += kUnitsInFlight * kThreads) {
    uint4 units_read[kUnitsInFlight];
#pragma unroll
    for (int u = 0; u < kUnitsInFlight; ++u) {
      if (i + u * kThreads < end) {
        units_read[u] = in[i + u * kThreads];
      }
    }
#pragma unroll
    for (int u = 0; u < kUnitsInFlight; ++u) {
      if (i + u * kThreads < end) {
        out[i + u * kThreads] = units_read[u];
      }
    }
  }
}

__device__ std::int64_t bytes_of(const PushPart& part, RowRange rows) {
  return part.fixed_bytes + rows.count * part.row_bytes;
}

__device__ void push_block(const PushArgs& args, int peer) {
  constexpr std::int64_t unit = sizeof(uint4);
  const auto rows = rows_of(args, args.rows_out, peer);
  const auto* from = args.send + peer * args.block_bytes;
  auto* to = args.peers[peer] + args.receive_begin + args.ep_rank * args.block_bytes;
  for (const auto& part : args.parts) {
    const auto bytes = bytes_of(part, rows);
    if (bytes == 0) {
      continue;
    }
    const auto begin = part.begin + rows.begin * part.row_bytes;
    const auto aligned = begin / unit * unit;
    copy_share(from + aligned, to + aligned, bytes + begin - aligned);
  }
}

/// Block ep_rank of the peer's, which lies where that rank would send from.
__device__ void pull_block(const PushArgs& args, int peer) {
  const auto* from = args.peers[peer] + args.pull_begin + args.ep_rank * args.block_bytes;
  auto* to = args.peers[args.ep_rank] + args.receive_begin + peer * args.block_bytes;
  copy_share(from, to, args.parts[0].fixed_bytes);
}

__device__ void count_bytes(const PushArgs& args) {
  const int step = static_cast<int>(threadIdx.x) + 1;
  if (blockIdx.x != 0 || step >= args.ep_size) {
    return;
  }
  const int peer = peer_of(args, step);
  unsigned long long sent = 0;
  unsigned long long received = 0;
  for (const auto& part : args.parts) {
    sent += bytes_of(part, rows_of(args, args.rows_out, peer));
    received += bytes_of(part, rows_of(args, args.rows_in, peer));
  }
  auto& status = *args.status;
  atomicAdd(args.combines ? &status.combine_sent : &status.dispatch_sent, sent);
  atomicAdd(args.combines ? &status.combine_received : &status.dispatch_received, received);
}

/// kPulls: fetches the blocks in place of storing them.
template <bool kPulls>
__global__ void __launch_bounds__(kThreads, 1) push_kernel(const __grid_constant__ PushArgs args,
                                                           std::uint64_t* time_stamp,
                                                           std::uint64_t* end_stamp) {
  write_time_stamp(time_stamp);
  const int step = static_cast<int>(threadIdx.x) + 1;
  const auto round = args.rounds[blockIdx.x];
  const auto has_begun = 2 * round + 1;
  const auto has_stored = 2 * round + 2;
  if (__syncthreads_or(threadIdx.x == 0 && load_acquire(args.gave_up) != 0 ? 1 : 0) != 0) {
    return;
  }
  if (args.awaits_peers_first) {
    // What this rank has read of its own memory was read by kernels that have ended.
    if (step < args.ep_size) {
      const int peer = peer_of(args, step);
      kPulls ? store_release(flag_at(args, peer, args.ep_rank), has_begun)
             : store_relaxed(flag_at(args, peer, args.ep_rank), has_begun);
    }
    if (!hear_from_all(args, has_begun)) {
      return;
    }
  }
  for (int s = 1; s < args.ep_size; ++s) {
    kPulls ? pull_block(args, peer_of(args, s)) : push_block(args, peer_of(args, s));
  }
  __syncthreads();
  if (step < args.ep_size) {
    const int peer = peer_of(args, step);
    store_release(flag_at(args, peer, args.ep_rank), has_stored);
  }
  if (!hear_from_all(args, has_stored)) {
    return;
  }
  count_bytes(args);
  if (threadIdx.x == 0) {
    args.rounds[blockIdx.x] = round + 1;
  }
  write_end_stamp(end_stamp);
}

void launch(void (*kernel)(PushArgs, std::uint64_t*, std::uint64_t*),
            const PushArgs& args,
            int ctas,
            cudaStream_t stream) {
  DOVETAIL_CHECK(ctas >= 1 && ctas <= kMostPushCtas, std::to_string(ctas) + " CTAs");
  DOVETAIL_CHECK(args.ep_size <= kThreads, std::to_string(args.ep_size) + " ranks");
  // In the domain of its own its release waits for its own stores, not for those of the compute
  // kernels beside it.
  cudaLaunchAttribute domain{};
  domain.id = cudaLaunchAttributeMemSyncDomain;
  domain.val.memSyncDomain = cudaLaunchMemSyncDomainRemote;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(ctas));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  config.attrs = &domain;
  config.numAttrs = 1;
  auto* const start = take_time_stamp(stream);
  auto* const end = take_end_stamp(stream);
  check_cuda(cudaLaunchKernelEx(&config, kernel, args, start, end),
             "launch of the exchange's push");
}

}  // namespace

void launch_push(const PushArgs& args, int ctas, cudaStream_t stream) {
  launch(push_kernel</*kPulls=*/false>, args, ctas, stream);
}

void launch_pull(const PushArgs& args, int ctas, cudaStream_t stream) {
  DOVETAIL_CHECK(args.awaits_peers_first, "a pull of what may not be there yet");
  launch(push_kernel</*kPulls=*/true>, args, ctas, stream);
}

}  // namespace dovetail
