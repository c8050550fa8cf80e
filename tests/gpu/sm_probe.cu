#include "tests/gpu/sm_probe.hpp"

#include "framework/cuda/check.hpp"

namespace dovetail::test {
namespace {

__device__ std::int64_t device_ns() {
  std::int64_t now = 0;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

__global__ void __launch_bounds__(kProbeThreads)
    sm_probe_kernel(SmProbe probe, std::int64_t spin_ns) {
  const std::int64_t start = device_ns();
  if (threadIdx.x == 0) {
    unsigned sm = 0;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));
    atomicAdd(&probe.blocks_of_sm[min(sm, static_cast<unsigned>(kMostSms - 1))], 1);
    atomicMin(reinterpret_cast<long long*>(probe.first_start), static_cast<long long>(start));
    atomicMax(reinterpret_cast<long long*>(probe.last_start), static_cast<long long>(start));
  }
  while (device_ns() - start < spin_ns) {
  }
}

}  // namespace

void launch_sm_probe(const SmProbe& probe, int blocks, std::int64_t spin_ns, cudaStream_t stream) {
  sm_probe_kernel<<<blocks, kProbeThreads, 0, stream>>>(probe, spin_ns);
  check_cuda(cudaGetLastError(), "launch of sm_probe");
}

}  // namespace dovetail::test
