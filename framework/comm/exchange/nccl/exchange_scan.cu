// The sender's side of a device exchange: tables from the routing.
#include "framework/comm/exchange/nccl/exchange_device.cuh"
#include "framework/cuda/check.hpp"

namespace dovetail {
namespace {

using device::block_prefix;
using device::kScanThreads;
using device::kWarp;

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

__device__ ExpertCut cut_of(const ScanArgs& args) {
  return {static_cast<int>(args.layout.num_experts / args.layout.ep_size), args.num_groups};
}

// What a token wants of a rank.
struct Wanted {
  std::int64_t expert = -1;  // its first choice there
  int choices = 0;
  int first_group = -1;
  int last_group = -1;
};

__device__ Wanted wanted_of(const ScanArgs& args, int destination, std::int64_t token) {
  const auto k = args.layout.top_k;
  const auto cut = cut_of(args);
  const std::int64_t begin = static_cast<std::int64_t>(destination) * cut.experts;
  Wanted wanted;
  for (std::int64_t j = 0; token < args.num_tokens && j < k; ++j) {
    const auto expert = args.expert_ids[token * k + j];
    if (expert < begin || expert >= begin + cut.experts) {
      continue;
    }
    const int group = cut.group_of(static_cast<int>(expert - begin));
    if (wanted.choices == 0) {
      wanted.expert = expert;
      wanted.first_group = group;
    }
    wanted.first_group = group < wanted.first_group ? group : wanted.first_group;
    wanted.last_group = group > wanted.last_group ? group : wanted.last_group;
    ++wanted.choices;
  }
  return wanted;
}

// Places of rows that lie by group, then by token; in shared memory.
struct GroupPlaces {
  int next[kMaxGroups];           // of each group
  int warps[kMaxGroups * kWarp];  // rows of a group in each warp
};

// All threads of the CTA: the place of this thread's row, whose group is -1 where it has none, and
// the next places behind those of the CTA.
__device__ int take_place(GroupPlaces& places, int num_groups, int group) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int num_warps = static_cast<int>(blockDim.x) / kWarp;
  int place = 0;
  for (int g = 0; g < num_groups; ++g) {
    const unsigned rows = __ballot_sync(0xffffffffU, group == g ? 1 : 0);
    if (lane == 0) {
      places.warps[g * kWarp + warp] = __popc(rows);
    }
    if (group == g) {
      place = __popc(rows & ((1U << static_cast<unsigned>(lane)) - 1U));
    }
  }
  __syncthreads();
  if (group >= 0) {
    place += places.next[group];
    for (int w = 0; w < warp; ++w) {
      place += places.warps[group * kWarp + w];
    }
  }
  __syncthreads();
  const int g = static_cast<int>(threadIdx.x);
  if (g < num_groups) {
    for (int w = 0; w < num_warps; ++w) {
      places.next[g] += places.warps[g * kWarp + w];
    }
  }
  __syncthreads();
  return place;
}

// All threads of the CTA: the first places of each group, from a look at all tokens.
__device__ void find_places(const ScanArgs& args,
                            int destination,
                            GroupPlaces& out,
                            GroupPlaces& back) {
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kMaxGroups) {
    out.next[thread] = 0;
    back.next[thread] = 0;
  }
  __syncthreads();
  for (std::int64_t chunk = 0; chunk < args.num_tokens; chunk += blockDim.x) {
    const auto wanted = wanted_of(args, destination, chunk + threadIdx.x);
    take_place(out, args.num_groups, wanted.first_group);
    take_place(back, args.num_groups, wanted.last_group);
  }
  if (thread < 2) {
    auto& places = thread == 0 ? out : back;
    int before = 0;
    for (int& next : places.next) {
      const int rows = next;
      next = before;
      before += rows;
    }
  }
  __syncthreads();
}

// One destination rank: the position of each token in its block and among what comes back, and the
// number of rows.
__device__ void scan_rank(const ScanArgs& args, int destination, int* sums) {
  __shared__ int left_out;  // first expert of the first token that does not fit
  __shared__ int left_out_token;
  __shared__ GroupPlaces out;
  __shared__ GroupPlaces back;
  const bool is_cut = args.num_groups > 1 && !args.all_rows;
  if (is_cut) {
    find_places(args, destination, out, back);
  }
  int running = 0;
  int chosen = 0;
  for (std::int64_t chunk = 0; chunk < args.num_tokens; chunk += blockDim.x) {
    const auto token = chunk + threadIdx.x;
    const auto wanted = wanted_of(args, destination, token);
    int total = 0;
    std::int64_t position = running + block_prefix(wanted.choices > 0 ? 1 : 0, sums, total);
    std::int64_t back_position = position;
    int choices = 0;
    block_prefix(wanted.choices, sums, choices);
    if (is_cut) {
      position = take_place(out, args.num_groups, wanted.first_group);
      back_position = take_place(back, args.num_groups, wanted.last_group);
    } else if (args.all_rows) {
      position = back_position = token;
    }
    if (token < args.num_tokens) {
      if (wanted.choices > 0 && position == args.capacity) {
        left_out = static_cast<int>(wanted.expert);
        left_out_token = static_cast<int>(token);
      }
      const bool fits = wanted.choices > 0 && position < args.capacity;
      const bool comes_back = fits && back_position < args.capacity;
      const auto at = token * args.layout.ep_size + destination;
      args.sender[args.layout.positions() + at] = static_cast<std::int32_t>(fits ? position : -1);
      args.sender[args.layout.back_positions() + at] =
          static_cast<std::int32_t>(comes_back ? back_position : -1);
    }
    running += total;
    chosen += choices;
  }
  __syncthreads();
  const auto within = [&](std::int64_t rows) {
    return static_cast<std::int32_t>(rows < args.capacity ? rows : args.capacity);
  };
  const auto all = args.all_rows ? args.num_tokens : static_cast<std::int64_t>(running);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < SenderLayout::kEndWords) {
    const int group = thread % kMaxGroups;
    const bool ends_early = is_cut && group < args.num_groups;
    const auto& places = thread < kMaxGroups ? out : back;
    args.sender[args.layout.ends() + destination * SenderLayout::kEndWords + thread] =
        within(ends_early ? places.next[group] : all);
  }
  if (threadIdx.x == 0) {
    if (!args.all_rows && running > args.capacity) {
      report(args, DeviceFinding::block_too_small, left_out_token, left_out, destination, running);
    }
    args.sender[destination] = within(all);
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

}  // namespace dovetail
