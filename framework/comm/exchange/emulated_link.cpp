#include "framework/comm/exchange/emulated_link.hpp"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <string>
#include <utility>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

using Clock = std::chrono::steady_clock;

// The longest sleep between two looks at what has happened elsewhere.
constexpr std::chrono::milliseconds kLongestSleep{1};

void sleep_until(Clock::time_point end) {
  const auto ns =
      std::chrono::duration_cast<std::chrono::nanoseconds>(end.time_since_epoch()).count();
  constexpr std::int64_t second = 1'000'000'000;
  const timespec at = {.tv_sec = static_cast<std::time_t>(ns / second),
                       .tv_nsec = static_cast<long>(ns % second)};
  // steady_clock is CLOCK_MONOTONIC. A signal ends the sleep early; the caller looks at the clock.
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr);
}

/// Sleeps to the end, without a tail that yields: where compute keeps the cores busy, a yield gives
/// away a whole slice of milliseconds. The exchange has made this thread's sleeps exact.
void wait_until(Clock::time_point end, const WaitPolicy& policy) {
  for (auto now = Clock::now(); now < end; now = Clock::now()) {
    if (policy.on_poll) {
      policy.on_poll();
    }
    sleep_until(std::min<Clock::time_point>(now + kLongestSleep, end));
  }
}

/// Waits for what is left of the link's time since `start`. `what` for messages.
void wait_for_link(const LinkConfig& link,
                   Clock::time_point start,
                   std::int64_t sent_bytes,
                   std::int64_t received_bytes,
                   const WaitPolicy& policy,
                   const std::string& what) {
  const auto duration = link_duration(link, sent_bytes, received_bytes);
  if (duration > policy.timeout) {
    throw TimeoutError(what + ": the emulated link needs " +
                       std::to_string(duration.count() / 1'000'000) + " ms for " +
                       std::to_string(std::max(sent_bytes, received_bytes)) +
                       " bytes; not done within " + std::to_string(policy.timeout.count()) + " ms");
  }
  wait_until(start + duration, policy);
}

}  // namespace

std::chrono::nanoseconds link_duration(const LinkConfig& link,
                                       std::int64_t sent_bytes,
                                       std::int64_t received_bytes) {
  // A byte at 1 GB/s takes 1 ns.
  const double ns = link.latency_us * 1e3 +
                    static_cast<double>(std::max(sent_bytes, received_bytes)) / link.gbytes_per_s;
  return std::chrono::nanoseconds(static_cast<std::int64_t>(std::ceil(ns)));
}

EmulatedLink::EmulatedLink(std::unique_ptr<Exchange> exchange,
                           const LinkConfig& link,
                           WaitPolicy policy)
    : exchange_(std::move(exchange)), link_(link), policy_(std::move(policy)) {}

void EmulatedLink::prepare(int ubatch, const RoutedTokens& tokens) {
  exchange_->prepare(ubatch, tokens);
}

void EmulatedLink::dispatch(int ubatch, int group) {
  const auto start = Clock::now();
  const auto before = meter().traffic();
  exchange_->dispatch(ubatch, group);
  const auto after = meter().traffic();
  wait_for_link(link_,
                start,
                after.dispatch_wire_bytes - before.dispatch_wire_bytes,
                after.dispatch_received_bytes - before.dispatch_received_bytes,
                policy_,
                "dispatch of ubatch " + std::to_string(ubatch));
}

ExpertRows EmulatedLink::arrange(int ubatch, int group) {
  return exchange_->arrange(ubatch, group);
}

void EmulatedLink::reduce(int ubatch, int group, const at::Tensor& expert_rows) {
  exchange_->reduce(ubatch, group, expert_rows);
}

void EmulatedLink::combine(int ubatch, int group) {
  const auto start = Clock::now();
  const auto before = meter().traffic();
  exchange_->combine(ubatch, group);
  const auto after = meter().traffic();
  wait_for_link(link_,
                start,
                after.combine_wire_bytes - before.combine_wire_bytes,
                after.combine_received_bytes - before.combine_received_bytes,
                policy_,
                "combine of ubatch " + std::to_string(ubatch));
}

at::Tensor EmulatedLink::finish(int ubatch) {
  return exchange_->finish(ubatch);
}

std::unique_ptr<Exchange> emulate_link(std::unique_ptr<Exchange> exchange,
                                       const ExchangeShape& shape,
                                       const LinkConfig& link,
                                       const WaitPolicy& policy) {
  if (shape.ep_size == 1) {
    return exchange;
  }
  return std::make_unique<EmulatedLink>(std::move(exchange), link, policy);
}

}  // namespace dovetail
