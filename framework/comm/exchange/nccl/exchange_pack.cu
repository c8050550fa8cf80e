// The sender's side of a device exchange: blocks from its tables.
#include "framework/comm/exchange/nccl/exchange_device.cuh"
#include "framework/cuda/check.hpp"
#include "framework/cuda/time_stamp.cuh"
#include "framework/cuda/time_stamp.hpp"

namespace dovetail {
namespace {

using device::is_aligned;
using device::kMostCtas;
using device::kRowThreads;
using device::num_ctas;

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
    } else if (i >= BlockLayout::kFirstEnd && i < BlockLayout::kFirstCount) {
      word = args.sender[args.layout.ends() + destination * SenderLayout::kEndWords + i -
                         BlockLayout::kFirstEnd];
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
    if (i == 3 * k) {
      row[i] = args.one_block ? static_cast<std::int32_t>(token)
                              : args.sender[args.layout.back_positions() +
                                            token * args.layout.ep_size + destination];
      continue;
    }
    const auto part = i / k;
    const auto from = part == 0   ? args.layout.experts()
                      : part == 1 ? args.layout.weights()
                                  : args.layout.indexes();
    row[i] = args.sender[from + token * k + i % k];
  }
}

// A CTA takes a token: reads its row once and writes it to every block that it is routed to.
template <class Word>
__global__ void __launch_bounds__(kRowThreads)
    pack_kernel(PackArgs args, std::uint64_t* end_stamp) {
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
  write_end_stamp(end_stamp);
}

}  // namespace

void launch_pack(const PackArgs& args, cudaStream_t stream) {
  const auto most = args.num_tokens > args.layout.ep_size ? args.num_tokens : args.layout.ep_size;
  const auto ctas = static_cast<unsigned>(num_ctas(most, kMostCtas));
  auto* stamp = take_end_stamp(stream);
  if (args.block.row_bytes % 16 == 0 && is_aligned(args.hidden)) {
    pack_kernel<uint4><<<ctas, kRowThreads, 0, stream>>>(args, stamp);
  } else {
    pack_kernel<std::uint16_t><<<ctas, kRowThreads, 0, stream>>>(args, stamp);
  }
  check_cuda(cudaGetLastError(), "launch of the exchange's pack");
}

}  // namespace dovetail
