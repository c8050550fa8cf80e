#include "framework/comm/nccl/poll.hpp"

#include <chrono>
#include <string>
#include <thread>

#include "framework/base/error.hpp"
#include "framework/cuda/check.hpp"

namespace dovetail {
namespace {

// A launch is done within some tens of microseconds: no sleep before this.
constexpr auto kSpin = std::chrono::microseconds(200);

}  // namespace

void poll_until(const std::function<bool()>& done, const WaitPolicy& wait, std::string_view what) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  auto next_hook = start + std::chrono::milliseconds(1);
  while (!done()) {
    const auto now = Clock::now();
    if (wait.on_poll && now >= next_hook) {
      wait.on_poll();
      next_hook = now + std::chrono::milliseconds(1);
    }
    if (now - start >= wait.timeout) {
      throw TimeoutError(std::string(what) + ": not done within " +
                         std::to_string(wait.timeout.count()) + " ms");
    }
    if (now - start >= kSpin) {
      std::this_thread::sleep_for(wait.sleep);
    } else {
      std::this_thread::yield();
    }
  }
}

void wait_for_event(cudaEvent_t event, const WaitPolicy& wait, std::string_view what) {
  poll_until(
      [&] {
        const auto status = cudaEventQuery(event);
        if (status == cudaErrorNotReady) {
          static_cast<void>(cudaGetLastError());  // or the next launch would be blamed
          return false;
        }
        check_cuda(status, std::string(what).c_str());
        return true;
      },
      wait,
      what);
}

}  // namespace dovetail
