#include "framework/mpi/wait.hpp"

#include <string>
#include <thread>

#include "framework/base/error.hpp"
#include "framework/mpi/check.hpp"

namespace dovetail {
namespace {

// Polls before the first sleep: short exchanges finish within them, long ones leave the core to the
// compute beside them.
constexpr int kSpinPolls = 64;

}  // namespace

void wait_all(std::span<MPI_Request> requests, const WaitPolicy& policy, std::string_view what) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + policy.timeout;
  auto next_poll_hook = Clock::now() + std::chrono::milliseconds(1);
  for (int polls = 0;; ++polls) {
    int done = 0;
    DOVETAIL_MPI(MPI_Testall(
        static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE));
    if (done != 0) {
      return;
    }
    if (polls < kSpinPolls) {
      continue;
    }
    const auto now = Clock::now();
    if (policy.on_poll && now >= next_poll_hook) {
      policy.on_poll();
      next_poll_hook = now + std::chrono::milliseconds(1);
    }
    if (now >= deadline) {
      throw TimeoutError(std::string(what) + ": not done within " +
                         std::to_string(policy.timeout.count()) + " ms");
    }
    std::this_thread::sleep_for(policy.sleep);
  }
}

}  // namespace dovetail
