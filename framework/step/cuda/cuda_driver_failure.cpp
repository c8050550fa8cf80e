// What CudaDriver does where a step fails.
#include <exception>
#include <thread>
#include <vector>

#include "framework/step/cuda/cuda_driver.hpp"

namespace dovetail {

void CudaDriver::poll() {
  setup_.ranks.wait.on_poll();
  for (const auto& [comm_sms, comm] : comms_) {
    comm->check_async();
  }
}

/// On all communicators first: a step's kernels look at the word of its own, and store into memory
/// that is registered with another.
bool CudaDriver::end_own_waits() noexcept {
  bool may_have_waited = false;
  for (const auto& [comm_sms, comm] : comms_) {
    may_have_waited = comm->end_own_waits() || may_have_waited;
  }
  return may_have_waited;
}

/// Side by side: each may take its whole bound, where graphs that name it are alive.
void CudaDriver::cancel_comm() noexcept {
  std::vector<std::thread> aborts;
  for (const auto& [comm_sms, comm] : comms_) {
    try {
      aborts.emplace_back([comm = comm] { comm->abort(); });
    } catch (const std::exception&) {  // no thread to be had
      comm->abort();
    }
  }
  for (auto& abort : aborts) {
    abort.join();
  }
}

}  // namespace dovetail
