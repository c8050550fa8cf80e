// The sums of a device exchange, on both sides.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "framework/base/error.hpp"
#include "framework/comm/exchange/expert_tree.hpp"
#include "framework/comm/exchange/nccl/exchange_device.cuh"
#include "framework/cuda/check.hpp"
#include "framework/cuda/time_stamp.cuh"
#include "framework/cuda/time_stamp.hpp"

namespace dovetail {
namespace {

using device::block_rows;
using device::grid_of;
using device::head_of;
using device::is_aligned;
using device::kMostCtas;
using device::kRowThreads;
using device::num_ctas;
using device::Unit;

struct Float32 {
  using Stored = float;

  static __device__ float widen(float value) { return value; }

  static __device__ float narrow(float value) { return value; }
};

struct BFloat16 {
  using Stored = __nv_bfloat16;

  static __device__ float widen(__nv_bfloat16 value) { return __bfloat162float(value); }

  static __device__ __nv_bfloat16 narrow(float value) { return __float2bfloat16_rn(value); }
};

struct Float16 {
  using Stored = __half;

  static __device__ float widen(__half value) { return __half2float(value); }

  static __device__ __half narrow(float value) { return __float2half_rn(value); }
};

// Nodes of the CTA's threads, in shared memory.
template <class Number, int N>
class SharedNodes {
 public:
  using Row = Unit<typename Number::Stored, N>[kRowThreads];

  __device__ explicit SharedNodes(Row* rows) : rows_(rows) {}

  __device__ auto& at(int level) { return rows_[level][threadIdx.x].values; }

 private:
  Row* rows_;
};

template <class Number, int N>
using SharedTreeSum = TreeSum<Number, N, SharedNodes<Number, N>>;

// Terms in the order in which they come, rounded once; the first is stored. As TreeSum, which also
// rounds where terms meet, and keeps nodes.
template <class Number, int N>
class PlainSum {
 public:
  __device__ explicit PlainSum(SharedNodes<Number, N> /*nodes*/) {}

  __device__ void add(int /*level*/, const float (&term)[N]) {
    DOVETAIL_UNROLL
    for (int n = 0; n < N; ++n) {
      sum_[n] = started_ ? __fadd_rn(sum_[n], term[n]) : term[n];
    }
    started_ = true;
  }

  __device__ void finish(typename Number::Stored (&result)[N]) const {
    DOVETAIL_UNROLL
    for (int n = 0; n < N; ++n) {
      result[n] = Number::narrow(sum_[n]);
    }
  }

 private:
  float sum_[N] = {};
  bool started_ = false;
};

// The local choices of an arrived row, in the order of the sum; in shared memory.
struct Terms {
  int count;  ///< 0 where another group's reduce sums the row
  int experts[kMaxDeviceTopK];
  const std::byte* rows[kMaxDeviceTopK];
  float weights[kMaxDeviceTopK];
  int levels[kMaxDeviceTopK];  ///< of by_expert
};

// All threads of the CTA. by_rank: in ascending k. by_expert: in ascending order of the experts.
template <bool kTree>
__device__ void collect_terms(const ReduceArgs& args,
                              const std::int32_t* metadata,
                              const std::int32_t* choice_rows,
                              Terms& terms) {
  constexpr int not_here = -1;
  const auto& block = args.arrivals.block;
  const auto& cut = args.arrivals.cut;
  const int k = static_cast<int>(block.top_k);
  const int choice = static_cast<int>(threadIdx.x);
  const int first_expert = args.arrivals.ep_rank * cut.experts;
  int local = not_here;
  if (choice < k) {
    const int expert = metadata[choice];
    const bool is_here = expert >= first_expert && expert - first_expert < cut.experts;
    local = is_here ? expert - first_expert : not_here;
    terms.experts[choice] = is_here ? expert : not_here;
  }
  __syncthreads();
  if (local != not_here) {
    const int expert = terms.experts[choice];
    int place = 0;
    int before = not_here;
    for (int j = 0; j < k; ++j) {
      const int other = terms.experts[j];
      // An expert that is chosen twice is found elsewhere; each term has its own place all the
      // same.
      const bool is_earlier =
          other != not_here && (kTree && other != expert ? other < expert : j < choice);
      place += is_earlier ? 1 : 0;
      before = is_earlier && other > before ? other : before;
    }
    // A row that did not fit is found elsewhere; any other stands for it.
    const std::int64_t row = choice_rows[choice] < 0 ? 0 : choice_rows[choice];
    terms.rows[place] = args.expert_rows[cut.group_of(local)] + row * block.row_bytes;
    terms.weights[place] = __int_as_float(metadata[k + choice]);
    if constexpr (kTree) {
      const int experts = static_cast<int>(block.num_experts);
      terms.levels[place] =
          before == not_here ? 0 : meeting_level_of_experts(before, expert, experts);
    }
  }
  if (choice == 0) {
    int count = 0;
    int last = not_here;
    for (int j = 0; j < k; ++j) {
      count += terms.experts[j] != not_here ? 1 : 0;
      last = terms.experts[j] > last ? terms.experts[j] : last;
    }
    const bool is_complete = count > 0 && cut.group_of(last - first_expert) == args.group;
    terms.count = is_complete ? count : 0;
  }
  __syncthreads();
}

// A CTA takes an arrived row; a thread takes units of N elements of its partial sum.
template <class Number, int N, template <class, int> class Sum, bool kTree>
__global__ void __launch_bounds__(kRowThreads)
    reduce_kernel(ReduceArgs args, std::uint64_t* end_stamp) {
  using T = typename Number::Stored;
  __shared__ Terms terms;
  __shared__ Unit<T, N> nodes[kTree ? kTreeLevels : 1][kRowThreads];
  const auto& arrivals = args.arrivals;
  const auto& block = arrivals.block;
  const std::int64_t source = blockIdx.y;
  const auto* head = head_of(arrivals, source);
  const auto num_rows = block_rows(head, block, args.group);
  const auto units = block.row_bytes / static_cast<std::int64_t>(sizeof(T) * N);
  auto* out = reinterpret_cast<Unit<T, N>*>(
      (source == arrivals.ep_rank ? args.received_back : args.send_back) +
      source * block.part_bytes());
  const auto unit_of = [&](int term, std::int64_t i) {
    return reinterpret_cast<const Unit<T, N>*>(terms.rows[term])[i];
  };
  for (std::int64_t row = blockIdx.x; row < num_rows; row += gridDim.x) {
    const auto* metadata = head + block.header_bytes() / 4 + row * block.metadata_words();
    collect_terms<kTree>(
        args, metadata, args.choice_rows + (source * block.capacity + row) * block.top_k, terms);
    const std::int64_t place = metadata[3 * block.top_k];
    const bool comes_back = place >= 0 && place < block.capacity && terms.count > 0;
    for (std::int64_t i = threadIdx.x; comes_back && i < units; i += blockDim.x) {
      Sum<Number, N> sum{SharedNodes<Number, N>(nodes)};
      Unit<T, N> next = unit_of(0, i);
      for (int j = 0; j < terms.count; ++j) {
        const Unit<T, N> unit = next;
        if (j + 1 < terms.count) {
          next = unit_of(j + 1, i);  // on its way while this one is added
        }
        float term[N];
        DOVETAIL_UNROLL
        for (int n = 0; n < N; ++n) {
          term[n] = __fmul_rn(terms.weights[j], Number::widen(unit.values[n]));
        }
        sum.add(kTree ? terms.levels[j] : 0, term);
      }
      Unit<T, N> rounded;
      sum.finish(rounded.values);
      out[place * units + i] = rounded;
    }
    __syncthreads();  // the next row writes terms
  }
  write_end_stamp(end_stamp);
}

// A CTA takes a token, and adds the partial sums of its ranks.
template <class Number, int N, template <class, int> class Sum, bool kTree>
__global__ void __launch_bounds__(kRowThreads)
    finish_kernel(FinishArgs args, std::uint64_t* time_stamp) {
  write_time_stamp(time_stamp);
  using T = typename Number::Stored;
  __shared__ Unit<T, N> nodes[kTree ? kTreeLevels : 1][kRowThreads];
  const auto units = args.block.row_bytes / static_cast<std::int64_t>(sizeof(T) * N);
  const auto ranks = static_cast<int>(args.layout.ep_size);
  auto* out = static_cast<Unit<T, N>*>(args.output);
  for (std::int64_t token = blockIdx.x; token < args.num_tokens; token += gridDim.x) {
    const auto* positions = args.sender + args.layout.back_positions() + token * ranks;
    for (std::int64_t i = threadIdx.x; i < units; i += blockDim.x) {
      Sum<Number, N> sum{SharedNodes<Number, N>(nodes)};
      int before = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const std::int64_t position = positions[rank];
        if (position < 0) {
          continue;
        }
        const auto* part = reinterpret_cast<const Unit<T, N>*>(args.received_back +
                                                               rank * args.block.part_bytes());
        const Unit<T, N> unit = part[position * units + i];
        float term[N];
        DOVETAIL_UNROLL
        for (int n = 0; n < N; ++n) {
          term[n] = Number::widen(unit.values[n]);
        }
        sum.add(meeting_level(before, rank), term);
        before = rank;
      }
      Unit<T, N> rounded;
      sum.finish(rounded.values);
      out[token * units + i] = rounded;
    }
  }
}

// Each launcher takes a kind of number and the elements of a unit.
template <class Number, int N>
void reduce_in_units(const ReduceArgs& args, cudaStream_t stream) {
  const auto grid = grid_of(args.arrivals);
  auto* stamp = take_end_stamp(stream);
  if (args.order == SumOrder::by_expert) {
    reduce_kernel<Number, N, SharedTreeSum, true><<<grid, kRowThreads, 0, stream>>>(args, stamp);
  } else {
    reduce_kernel<Number, N, PlainSum, false><<<grid, kRowThreads, 0, stream>>>(args, stamp);
  }
}

template <class Number, int N>
void finish_in_units(const FinishArgs& args, cudaStream_t stream) {
  const auto grid = static_cast<unsigned>(num_ctas(args.num_tokens, kMostCtas));
  auto* stamp = take_time_stamp(stream);
  if (args.order == SumOrder::by_expert) {
    finish_kernel<Number, N, SharedTreeSum, true><<<grid, kRowThreads, 0, stream>>>(args, stamp);
  } else {
    finish_kernel<Number, N, PlainSum, false><<<grid, kRowThreads, 0, stream>>>(args, stamp);
  }
}

// Calls launch.template operator()<Number, N>(): units of 16 bytes where rows have whole ones.
template <class Number, class Launch>
void in_widest_units(bool is_wide, Launch launch) {
  if (is_wide) {
    launch.template operator()<Number, 16 / sizeof(typename Number::Stored)>();
  } else {
    launch.template operator()<Number, 1>();
  }
}

template <class Launch>
void of_row_type(RowType type, bool is_wide, Launch launch) {
  switch (type) {
    case RowType::float32:
      return in_widest_units<Float32>(is_wide, launch);
    case RowType::bfloat16:
      return in_widest_units<BFloat16>(is_wide, launch);
    case RowType::float16:
      return in_widest_units<Float16>(is_wide, launch);
  }
}

bool are_aligned(const ReduceArgs& args) {
  bool aligned = true;
  for (int group = 0; group <= args.group; ++group) {
    aligned = aligned && is_aligned(args.expert_rows[group]);
  }
  return aligned;
}

}  // namespace

void launch_reduce(const ReduceArgs& args, cudaStream_t stream) {
  of_row_type(args.type,
              args.arrivals.block.row_bytes % 16 == 0 && are_aligned(args),
              [&]<class Number, int N>() { reduce_in_units<Number, N>(args, stream); });
  check_cuda(cudaGetLastError(), "launch of the exchange's reduce");
}

void launch_finish(const FinishArgs& args, cudaStream_t stream) {
  if (args.num_tokens == 0) {
    return;
  }
  of_row_type(args.type,
              args.block.row_bytes % 16 == 0 && is_aligned(args.output),
              [&]<class Number, int N>() { finish_in_units<Number, N>(args, stream); });
  check_cuda(cudaGetLastError(), "launch of the exchange's finish");
}

}  // namespace dovetail
