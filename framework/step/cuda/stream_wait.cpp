#include "framework/step/cuda/stream_wait.hpp"

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "framework/comm/nccl/poll.hpp"

namespace dovetail {

void wait_for_event(const c10::cuda::CUDAEvent& event,
                    const WaitPolicy& policy,
                    std::string_view what) {
  poll_until([&] { return event.query(); }, policy, what);
}

void wait_for_current_stream(at::Device device, const WaitPolicy& policy, std::string_view what) {
  const c10::cuda::CUDAGuard guard(device);
  c10::cuda::CUDAEvent event(cudaEventDisableTiming);
  event.record(c10::cuda::getCurrentCUDAStream(device.index()));
  wait_for_event(event, policy, what);
}

}  // namespace dovetail
