#include "framework/cuda/timer_look.hpp"

#include "framework/cuda/check.hpp"
#include "framework/cuda/time_stamp.cuh"

namespace dovetail {
namespace {

constexpr std::uint64_t kLookNs = 20'000;
constexpr int kMostLooks = 1 << 20;  ///< where the clock stands still

__global__ void timer_look_kernel(std::uint64_t* word) {
  write_time_stamp(word);
}

__global__ void timer_step_kernel(std::uint64_t* word) {
  const std::uint64_t begin = global_timer_ns();
  std::uint64_t last = begin;
  std::uint64_t smallest = 0;
  for (int i = 0; i < kMostLooks && last - begin < kLookNs; ++i) {
    const std::uint64_t now = global_timer_ns();
    const std::uint64_t step = now - last;
    if (step > 0 && (smallest == 0 || step < smallest)) {
      smallest = step;
    }
    last = now;
  }
  *word = smallest;
}

}  // namespace

void launch_timer_look(std::uint64_t* word, cudaStream_t stream) {
  timer_look_kernel<<<1, 1, 0, stream>>>(word);
  check_cuda(cudaGetLastError(), "launch of timer_look");
}

void launch_timer_step(std::uint64_t* word, cudaStream_t stream) {
  timer_step_kernel<<<1, 1, 0, stream>>>(word);
  check_cuda(cudaGetLastError(), "launch of timer_step");
}

}  // namespace dovetail
