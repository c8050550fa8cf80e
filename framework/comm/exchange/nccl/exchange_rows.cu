// What arrives in a device exchange, ordered by expert.
#include "framework/comm/exchange/nccl/exchange_device.cuh"
#include "framework/cuda/check.hpp"
#include "framework/cuda/time_stamp.cuh"
#include "framework/cuda/time_stamp.hpp"

namespace dovetail {
namespace {

using device::block_prefix;
using device::block_rows;
using device::grid_of;
using device::head_of;
using device::is_aligned;
using device::kRowThreads;
using device::kScanThreads;
using device::kWarp;

// One CTA: first row of each (expert of the group, source), and the ends of these experts.
__global__ void __launch_bounds__(kScanThreads)
    offsets_kernel(ArrangeArgs args, std::uint64_t* time_stamp) {
  write_time_stamp(time_stamp);
  __shared__ int sums[kWarp];
  const auto& arrivals = args.arrivals;
  const std::int64_t ranks = arrivals.ep_size;
  const int first_of_group = arrivals.cut.begin(args.group);
  const std::int64_t pairs = ranks * (arrivals.cut.begin(args.group + 1) - first_of_group);
  const std::int64_t first_expert =
      static_cast<std::int64_t>(arrivals.ep_rank) * arrivals.cut.experts + first_of_group;
  auto* bases = args.bases + first_of_group * ranks;
  auto* offsets = args.offsets + first_of_group;
  std::int64_t running = 0;
  for (std::int64_t chunk = 0; chunk < pairs; chunk += blockDim.x) {
    const auto pair = chunk + threadIdx.x;
    const auto expert = pair / ranks;
    const auto source = pair % ranks;
    int count = 0;
    if (pair < pairs) {
      count = head_of(arrivals, source)[BlockLayout::kFirstCount + first_expert + expert];
      count = count < 0 ? 0 : count;
    }
    int total = 0;
    const auto begin = running + block_prefix(count, sums, total);
    if (pair < pairs) {
      const auto end = begin + count;
      bases[pair] = static_cast<std::int32_t>(begin < args.row_limit ? begin : args.row_limit);
      if (source == ranks - 1) {
        offsets[expert] = static_cast<std::int32_t>(end < args.row_limit ? end : args.row_limit);
      }
    }
    running += total;
  }
}

// A CTA takes an arrived row: reads it once and writes it for each of its choices in the group.
template <class Word>
__global__ void __launch_bounds__(kRowThreads) copy_kernel(ArrangeArgs args) {
  __shared__ std::int64_t target[kMaxDeviceTopK];
  const auto& arrivals = args.arrivals;
  const auto& block = arrivals.block;
  const int k = static_cast<int>(block.top_k);
  const std::int64_t source = blockIdx.y;
  const auto* head = head_of(arrivals, source);
  const auto num_rows = block_rows(head, block, args.group);
  const auto words = block.row_bytes / static_cast<std::int64_t>(sizeof(Word));
  const auto* payload = reinterpret_cast<const Word*>(
      arrivals.blocks + source * block.block_bytes() + block.payload_begin());
  const std::int64_t first_expert =
      static_cast<std::int64_t>(arrivals.ep_rank) * arrivals.cut.experts;
  const int first_of_group = arrivals.cut.begin(args.group);
  const int end_of_group = arrivals.cut.begin(args.group + 1);
  for (std::int64_t row = blockIdx.x; row < num_rows; row += gridDim.x) {
    const int choice = static_cast<int>(threadIdx.x);
    if (choice < k) {
      const auto* metadata = head + block.header_bytes() / 4 + row * block.metadata_words();
      const std::int64_t expert = metadata[choice];
      const auto local = expert - first_expert;
      std::int64_t to = -1;
      if (expert >= 0 && local >= first_of_group && local < end_of_group) {
        to = static_cast<std::int64_t>(args.bases[local * arrivals.ep_size + source]) +
             metadata[2 * k + choice];
        to = to < args.row_limit ? to : -1;
        args.choice_rows[(source * block.capacity + row) * k + choice] =
            static_cast<std::int32_t>(to);
      }
      target[choice] = to;
    }
    __syncthreads();
    bool any = false;
    for (int j = 0; j < k; ++j) {
      any = any || target[j] >= 0;
    }
    for (std::int64_t i = threadIdx.x; any && i < words; i += blockDim.x) {
      const Word word = payload[row * words + i];
      for (int j = 0; j < k; ++j) {
        if (target[j] >= 0) {
          reinterpret_cast<Word*>(args.rows)[target[j] * words + i] = word;
        }
      }
    }
    __syncthreads();  // the next row writes target
  }
}

}  // namespace

void launch_arrange(const ArrangeArgs& args, cudaStream_t stream) {
  offsets_kernel<<<1, kScanThreads, 0, stream>>>(args, take_time_stamp(stream));
  check_cuda(cudaGetLastError(), "launch of the exchange's offsets");
  const auto grid = grid_of(args.arrivals);
  if (args.arrivals.block.row_bytes % 16 == 0 && is_aligned(args.rows)) {
    copy_kernel<uint4><<<grid, kRowThreads, 0, stream>>>(args);
  } else {
    copy_kernel<std::uint16_t><<<grid, kRowThreads, 0, stream>>>(args);
  }
  check_cuda(cudaGetLastError(), "launch of the exchange's copy to expert rows");
}

}  // namespace dovetail
