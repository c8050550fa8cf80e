#include "framework/mpi/wait.hpp"

#include <algorithm>
#include <string>
#include <sys/prctl.h>
#include <thread>
#include <vector>

#include "framework/base/check.hpp"
#include "framework/base/error.hpp"

namespace dovetail {
namespace {

// Polls before the first sleep: short exchanges finish within them, long ones leave the core to the
// compute beside them.
constexpr int kSpinPolls = 64;
// The longest sleep of a wait that may be for a message, in multiples of the policy's.
constexpr int kLongestSleep = 2;
// What has lasted for long may be late by a small share of that: its polls would only take the
// cores of those that are waited for, most of all where ranks are more than cores. The share is
// small, because each round of a collective is late by its own sleep.
constexpr std::chrono::milliseconds kLongestOfAll{2};
constexpr int kPatientShare = 32;

constexpr unsigned long kTimerSlackNs = 1000;

// The kernel may end a thread's sleeps late by its timer slack, 50 us by default: more than what we
// sleep.
void make_sleeps_exact() {
  thread_local const bool done = prctl(PR_SET_TIMERSLACK, kTimerSlackNs, 0, 0, 0) == 0;
  static_cast<void>(done);
}

[[noreturn]] void throw_wait_error(int code,
                                   const std::vector<MPI_Status>& statuses,
                                   std::string_view what) {
  if (code == MPI_ERR_IN_STATUS) {
    for (const MPI_Status& status : statuses) {
      if (status.MPI_ERROR != MPI_SUCCESS && status.MPI_ERROR != MPI_ERR_PENDING) {
        code = status.MPI_ERROR;
      }
    }
  }
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw RunError(std::string(what) + ": " + std::string(text, static_cast<std::size_t>(length)));
}

thread_local int local_scopes = 0;

}  // namespace

LocalScope::LocalScope() {
  ++local_scopes;
}

LocalScope::~LocalScope() {
  --local_scopes;
}

void require_may_communicate(std::string_view what) {
  DOVETAIL_CHECK(local_scopes == 0, std::string(what) + " in a scope that must not communicate");
}

void wait_all(std::span<MPI_Request> requests, const WaitPolicy& policy, std::string_view what) {
  using Clock = std::chrono::steady_clock;
  require_may_communicate(what);
  make_sleeps_exact();
  std::vector<MPI_Status> statuses(requests.size());  // they say which error
  const auto start = Clock::now();
  const auto deadline = start + policy.timeout;
  auto next_poll_hook = start + std::chrono::milliseconds(1);
  for (int polls = 0;; ++polls) {
    int done = 0;
    const int code =
        MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, statuses.data());
    if (code != MPI_SUCCESS) {
      throw_wait_error(code, statuses, what);
    }
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
    // In proportion to the time waited, within bounds: a large message takes several answers of
    // this thread, each late by up to a sleep.
    const auto waited = now - start;
    const auto longest = std::clamp<Clock::duration>(
        waited / policy.late_share, kLongestSleep * policy.sleep, kLongestOfAll);
    std::this_thread::sleep_for(std::clamp<Clock::duration>(waited / 16, policy.sleep, longest));
  }
}

WaitPolicy patient(const WaitPolicy& wait) {
  WaitPolicy longer = wait;
  longer.timeout = std::max<std::chrono::milliseconds>(wait.timeout, std::chrono::minutes(10));
  longer.late_share = kPatientShare;
  return longer;
}

}  // namespace dovetail
