// The sender's side of a device exchange: tables from the routing, then blocks from the tables.
#include "framework/comm/exchange/nccl/exchange_device.cuh"
#include "framework/cuda/check.hpp"

namespace dovetail {
namespace {

using device::block_prefix;
using device::is_aligned;
using device::kMostCtas;
using device::kRowThreads;
using device::kScanThreads;
using device::kWarp;
using device::num_ctas;

__device__ void report(const ScanArgs& args,
                       DeviceFinding finding,
                       std::int64_t token,
                       std::int64_t expert,
                       int destination,
                       int rows) {
  auto& status = *args.status;
  if (atomicCAS(&status.finding, 0, static_cast<std::int32_t>(finding)) == 0) {
    status.ubatch = args.ubatch;
    status.layer = args.layer;
    status.token = static_cast<std::int32_t>(token);
    status.expert = static_cast<std::int32_t>(expert);
    status.destination = destination;
    status.rows = rows;
    status.capacity = static_cast<std::int32_t>(args.capacity);
  }
}

// One expert: the index of each of its choices in token order, and their number.
__device__ void scan_expert(const ScanArgs& args, int expert, int* sums) {
  const auto k = args.layout.top_k;
  int running = 0;
  for (std::int64_t chunk = 0; chunk < args.num_tokens; chunk += blockDim.x) {
    const auto token = chunk + threadIdx.x;
    std::int64_t found = -1;
    if (token < args.num_tokens) {
      for (std::int64_t j = 0; j < k; ++j) {
        if (args.expert_ids[token * k + j] == expert) {
          if (found >= 0) {
            report(args, DeviceFinding::expert_chosen_twice, token, expert, 0, 0);
          } else {
            found = token * k + j;
          }
        }
      }
    }
    int total = 0;
    const int before = block_prefix(found >= 0 ? 1 : 0, sums, total);
    if (found >= 0) {
      args.sender[args.layout.indexes() + found] = running + before;
    }
    running += total;
  }
  if (threadIdx.x == 0) {
    args.sender[args.layout.counts() + expert] = running;
  }
}

// Ids as the blocks carry them, and their weights; ids that name no expert become "none". All CTAs
// of experts share the work, neighbours side by side.
__device__ void keep_choices(const ScanArgs& args, int cta) {
  const auto k = args.layout.top_k;
  const auto step = args.layout.num_experts * blockDim.x;
  for (std::int64_t choice = static_cast<std::int64_t>(cta) * blockDim.x + threadIdx.x;
       choice < args.num_tokens * k;
       choice += step) {
    auto expert = args.expert_ids[choice];
    if (expert < -1 || expert >= args.layout.num_experts) {
      report(args, DeviceFinding::expert_out_of_range, choice / k, expert, 0, 0);
      expert = -1;
    }
    if (expert == -1) {
      args.sender[args.layout.indexes() + choice] = 0;
    }
    args.sender[args.layout.experts() + choice] = static_cast<std::int32_t>(expert);
    args.sender[args.layout.weights() + choice] = __float_as_int(args.weights[choice]);
  }
}

// One destination rank: the position of each token in its block, and the number of rows.
__device__ void scan_rank(const ScanArgs& args, int destination, int* sums) {
  __shared__ int left_out;  // first expert of the first token that does not fit
  __shared__ int left_out_token;
  const auto k = args.layout.top_k;
  const auto experts_per_rank = args.layout.num_experts / args.layout.ep_size;
  const auto begin = destination * experts_per_rank;
  int running = 0;
  int chosen = 0;
  for (std::int64_t chunk = 0; chunk < args.num_tokens; chunk += blockDim.x) {
    const auto token = chunk + threadIdx.x;
    std::int64_t first = -1;
    int local = 0;
    if (token < args.num_tokens) {
      for (std::int64_t j = 0; j < k; ++j) {
        const auto expert = args.expert_ids[token * k + j];
        if (expert >= begin && expert < begin + experts_per_rank) {
          first = first < 0 ? expert : first;
          ++local;
        }
      }
    }
    int total = 0;
    const int before = running + block_prefix(local > 0 ? 1 : 0, sums, total);
    int choices = 0;
    block_prefix(local, sums, choices);
    if (token < args.num_tokens) {
      std::int64_t position = local > 0 ? (args.all_rows ? token : before) : -1;
      if (position >= args.capacity) {
        if (position == args.capacity) {
          left_out = static_cast<int>(first);
          left_out_token = static_cast<int>(token);
        }
        position = -1;
      }
      args.sender[args.layout.positions() + token * args.layout.ep_size + destination] =
          static_cast<std::int32_t>(position);
    }
    running += total;
    chosen += choices;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    if (!args.all_rows && running > args.capacity) {
      report(args, DeviceFinding::block_too_small, left_out_token, left_out, destination, running);
    }
    const auto rows = args.all_rows ? args.num_tokens : static_cast<std::int64_t>(running);
    args.sender[destination] =
        static_cast<std::int32_t>(rows < args.capacity ? rows : args.capacity);
    if (chosen > 0) {
      atomicAdd(&args.status->choices, static_cast<unsigned long long>(chosen));
    }
  }
}

// CTAs [0, E): an expert each; then one for each destination rank.
__global__ void __launch_bounds__(kScanThreads) scan_kernel(ScanArgs args) {
  __shared__ int sums[kWarp];
  const int cta = static_cast<int>(blockIdx.x);
  const int num_experts = static_cast<int>(args.layout.num_experts);
  if (cta < num_experts) {
    keep_choices(args, cta);
    scan_expert(args, cta, sums);
  } else {
    scan_rank(args, cta - num_experts, sums);
  }
}

__device__ std::byte* block_for(const PackArgs& args, std::int64_t destination) {
  return destination == args.ep_rank ? args.receive + destination * args.block.block_bytes()
                                     : args.send + destination * args.block.block_bytes();
}

__device__ void pack_header(const PackArgs& args, std::int64_t destination) {
  auto* header = reinterpret_cast<std::int32_t*>(block_for(args, destination));
  for (std::int64_t i = threadIdx.x; i < args.block.header_words(); i += blockDim.x) {
    std::int32_t word = 0;
    if (i == 0) {
      word = args.sender[destination];
    } else if (i >= BlockLayout::kFirstCount) {
      word = args.sender[args.layout.counts() + i - BlockLayout::kFirstCount];
    }
    header[i] = word;
  }
}

__device__ std::int64_t position_of(const PackArgs& args,
                                    std::int64_t token,
                                    std::int64_t destination) {
  return args.one_block
             ? token
             : args.sender[args.layout.positions() + token * args.layout.ep_size + destination];
}

__device__ void pack_metadata(const PackArgs& args,
                              std::int64_t token,
                              std::int64_t destination,
                              std::int64_t position) {
  const auto k = args.layout.top_k;
  const auto words = args.block.metadata_words();
  auto* row =
      reinterpret_cast<std::int32_t*>(block_for(args, destination) + args.block.header_bytes()) +
      position * words;
  for (std::int64_t i = threadIdx.x; i < words; i += blockDim.x) {
    const auto part = i / k;
    const auto from = part == 0   ? args.layout.experts()
                      : part == 1 ? args.layout.weights()
                                  : args.layout.indexes();
    row[i] = args.sender[from + token * k + i % k];
  }
}

// A CTA takes a token: reads its row once and writes it to every block that it is routed to.
template <class Word>
__global__ void __launch_bounds__(kRowThreads) pack_kernel(PackArgs args) {
  const std::int64_t first = args.one_block ? args.ep_rank : 0;
  const std::int64_t last = args.one_block ? args.ep_rank + 1 : args.layout.ep_size;
  for (std::int64_t d = first + blockIdx.x; d < last; d += gridDim.x) {
    pack_header(args, d);
  }
  const auto words = args.block.row_bytes / static_cast<std::int64_t>(sizeof(Word));
  for (std::int64_t token = blockIdx.x; token < args.num_tokens; token += gridDim.x) {
    const auto* row = static_cast<const Word*>(args.hidden) + token * words;
    for (std::int64_t i = threadIdx.x; i < words; i += blockDim.x) {
      const Word word = row[i];
      for (auto d = first; d < last; ++d) {
        const auto position = position_of(args, token, d);
        if (position >= 0) {
          auto* block = block_for(args, d) + args.block.payload_begin();
          reinterpret_cast<Word*>(block)[position * words + i] = word;
        }
      }
    }
    for (auto d = first; d < last; ++d) {
      const auto position = position_of(args, token, d);
      if (position >= 0) {
        pack_metadata(args, token, d, position);
      }
    }
  }
}

}  // namespace

void launch_scan(const ScanArgs& args, cudaStream_t stream) {
  const auto ctas = static_cast<unsigned>(args.layout.num_experts + args.layout.ep_size);
  // One warp is enough for a few tokens; more tokens take several rounds.
  const auto rounded = (args.num_tokens + kWarp - 1) / kWarp * kWarp;
  const auto threads = static_cast<unsigned>(rounded < kWarp          ? kWarp
                                             : rounded > kScanThreads ? kScanThreads
                                                                      : rounded);
  scan_kernel<<<ctas, threads, 0, stream>>>(args);
  check_cuda(cudaGetLastError(), "launch of the exchange's scan");
}

void launch_pack(const PackArgs& args, cudaStream_t stream) {
  const auto most = args.num_tokens > args.layout.ep_size ? args.num_tokens : args.layout.ep_size;
  const auto ctas = static_cast<unsigned>(num_ctas(most, kMostCtas));
  if (args.block.row_bytes % 16 == 0 && is_aligned(args.hidden)) {
    pack_kernel<uint4><<<ctas, kRowThreads, 0, stream>>>(args);
  } else {
    pack_kernel<std::uint16_t><<<ctas, kRowThreads, 0, stream>>>(args);
  }
  check_cuda(cudaGetLastError(), "launch of the exchange's pack");
}

}  // namespace dovetail
