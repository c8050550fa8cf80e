// Waits of the executor on the host, and what it does when one is over without the streams idle.
#include <exception>
#include <string>
#include <thread>

#include "framework/base/clock.hpp"
#include "framework/base/error.hpp"
#include "framework/base/log.hpp"
#include "framework/cuda/check.hpp"
#include "framework/step/cuda/cuda_executor.hpp"
#include "framework/step/cuda/step_progress.hpp"

namespace dovetail {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kPollInterval = std::chrono::milliseconds(1);
constexpr auto kSleep = std::chrono::microseconds(20);
constexpr auto kGrace = std::chrono::seconds(2);  ///< in which what needs no cancelling mostly ends

/// True once all work on the stream is done. Throws the device's error.
bool is_idle(cudaStream_t stream) {
  const cudaError_t status = cudaStreamQuery(stream);
  if (status == cudaErrorNotReady) {
    static_cast<void>(cudaGetLastError());  // CUDA remembers it for whoever looks next
    return false;
  }
  check_cuda(status, "query a stream");
  return true;
}

}  // namespace

bool CudaExecutor::poll_until_done(Clock::time_point deadline) const {
  const auto start = Clock::now();
  auto next_poll = start + kPollInterval;
  while (!finished_.is_done()) {
    const auto now = Clock::now();
    if (now >= deadline) {
      return false;
    }
    if (now >= next_poll) {
      if (options_.on_poll) {
        options_.on_poll();
      }
      next_poll = Clock::now() + kPollInterval;
    }
    if (now - start > options_.spin) {
      std::this_thread::sleep_for(kSleep);
    }
  }
  return true;
}

void CudaExecutor::wait_until_done(const std::string& what,
                                   const std::function<std::string()>& where) {
  finished_.record(compute_stream());
  enqueued_at_ns_ = now_ns();
  gave_up_ = true;
  if (!poll_until_done(Clock::now() + options_.timeout)) {
    throw TimeoutError(what + " did not end within " + std::to_string(options_.timeout.count()) +
                       " ms" + (where ? where() : std::string()));
  }
  gave_up_ = false;
}

std::string CudaExecutor::unfinished() {
  return describe_progress(*schedule_, pass_, [this](std::size_t i) { return end_of(i); });
}

void CudaExecutor::abort_step() noexcept {
  if (flow_.capturing) {
    return;
  }
  const auto wait_idle = [this](Clock::duration limit) {
    const auto deadline = Clock::now() + limit;
    while (!is_idle(compute_stream()) || !is_idle(comm_stream())) {
      if (Clock::now() >= deadline) {
        return false;
      }
      std::this_thread::sleep_for(kSleep);
    }
    return true;
  };
  try {
    if (!gave_up_ && wait_idle(kGrace)) {
      return;
    }
    if (options_.end_own_waits && options_.end_own_waits()) {
      wait_idle(kGrace);
    }
    if (options_.cancel_comm) {
      options_.cancel_comm();
    }
    if (!wait_idle(options_.timeout)) {
      log_line("the GPU is still busy after a failed step");
    }
  } catch (const std::exception& error) {
    log_line(std::string("after a failed step: ") + error.what());
  } catch (...) {
    log_line("after a failed step: an exception that is no std::exception");
  }
}

}  // namespace dovetail
