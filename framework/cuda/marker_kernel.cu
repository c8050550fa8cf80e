#include "framework/cuda/marker_kernel.hpp"

#include "framework/base/hash.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/time_stamp.cuh"

namespace dovetail {
namespace {

constexpr int kSpreadThreads = 128;

__device__ std::int64_t device_ns() {
  return static_cast<std::int64_t>(global_timer_ns());
}

__device__ void await_flag(const MarkerBoard& board, std::int64_t await_ns) {
  const volatile std::int32_t* flag = board.flag;
  const std::int64_t deadline = device_ns() + await_ns;
  while (*flag == 0) {
    if (device_ns() > deadline) {
      atomicAdd(board.missed, 1);
      return;
    }
  }
}

__global__ void marker_kernel(std::int32_t op,
                              MarkerBoard board,
                              std::int64_t spin_ns,
                              MarkerFlag flag,
                              std::int64_t await_ns,
                              std::uint64_t* time_stamp) {
  write_time_stamp(time_stamp);
  const volatile std::uint64_t* values = board.values;
  std::uint64_t value = combine_hash(*board.seed, static_cast<std::uint64_t>(op));
  for (std::int32_t i = board.inputs_begin[op]; i < board.inputs_begin[op + 1]; ++i) {
    value = combine_hash(value, values[board.inputs[i]]);
  }
  spin_for(static_cast<std::uint64_t>(spin_ns));
  if (flag == MarkerFlag::raise) {
    atomicExch(board.flag, 1);
  } else if (flag == MarkerFlag::await) {
    await_flag(board, await_ns);
  }
  board.values[op] = value;
  __threadfence();
  board.tickets[op] = atomicAdd(board.ticket, 1);
}

__global__ void marker_spread_kernel(std::int32_t op,
                                     MarkerBoard board,
                                     std::uint64_t* scratch,
                                     int count) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kSpreadThreads) {
    scratch[i] = board.values[op] + static_cast<std::uint64_t>(i);
  }
}

__global__ void marker_sum_kernel(std::int32_t op,
                                  const std::uint64_t* scratch,
                                  int count,
                                  std::uint64_t* sums,
                                  std::uint64_t* time_stamp,
                                  std::uint64_t* end_stamp) {
  write_time_stamp(time_stamp);
  std::uint64_t sum = 0;
  for (int i = 0; i < count; ++i) {
    sum += scratch[i];
  }
  sums[op] = sum;
  write_end_stamp(end_stamp);
}

}  // namespace

void launch_marker(int op,
                   const MarkerBoard& board,
                   std::int64_t spin_ns,
                   MarkerFlag flag,
                   std::int64_t await_ns,
                   cudaStream_t stream,
                   std::uint64_t* time_stamp) {
  marker_kernel<<<1, 1, 0, stream>>>(op, board, spin_ns, flag, await_ns, time_stamp);
  check_cuda(cudaGetLastError(), "launch of marker");
}

void launch_marker_spread(
    int op, const MarkerBoard& board, std::uint64_t* scratch, int count, cudaStream_t stream) {
  marker_spread_kernel<<<1, kSpreadThreads, 0, stream>>>(op, board, scratch, count);
  check_cuda(cudaGetLastError(), "launch of marker_spread");
}

void launch_marker_sum(int op,
                       const std::uint64_t* scratch,
                       int count,
                       std::uint64_t* sums,
                       cudaStream_t stream,
                       std::uint64_t* time_stamp,
                       std::uint64_t* end_stamp) {
  marker_sum_kernel<<<1, 1, 0, stream>>>(op, scratch, count, sums, time_stamp, end_stamp);
  check_cuda(cudaGetLastError(), "launch of marker_sum");
}

}  // namespace dovetail
