#include "framework/cuda/delay_kernel.hpp"

#include "framework/cuda/check.hpp"
#include "framework/cuda/time_stamp.cuh"
#include "framework/cuda/time_stamp.hpp"

namespace dovetail {
namespace {

__global__ void delay_kernel(std::uint64_t ns, std::uint64_t* time_stamp) {
  write_time_stamp(time_stamp);
  spin_for(ns);
}

}  // namespace

void launch_delay(std::chrono::nanoseconds time, cudaStream_t stream) {
  delay_kernel<<<1, 1, 0, stream>>>(static_cast<std::uint64_t>(time.count()),
                                    take_time_stamp(stream));
  check_cuda(cudaGetLastError(), "launch of delay");
}

}  // namespace dovetail
