#include "framework/cuda/clock_alignment.hpp"

#include <cmath>
#include <utility>

#include "framework/base/clock.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/event_resolution.hpp"

namespace dovetail {
namespace {

constexpr int kTries = 8;

}  // namespace

std::int64_t ClockAlignment::host_ns(const Event& event) const {
  return base_ns - std::llround(Event::elapsed_ns(event, base));
}

void ClockAlignment::widen_error(std::int64_t earliest_ns) {
  const auto span = static_cast<double>(base_ns - earliest_ns);
  error_ns += std::llround(std::ceil(event_error_ns(span) - kEventResolutionNs));
}

void align_clock(cudaStream_t stream, ClockAlignment& alignment) {
  alignment.error_ns = -1;
  Event candidate(Event::Kind::timing);
  if (!alignment.base) {
    alignment.base = Event(Event::Kind::timing);
  }
  std::int64_t smallest = 0;
  for (int i = 0; i < kTries; ++i) {
    const std::int64_t before = now_ns();
    candidate.record(stream);
    check_cuda(cudaEventSynchronize(candidate.raw()), "wait for an event on an idle stream");
    const std::int64_t bracket = now_ns() - before;
    if (i == 0 || bracket < smallest) {
      smallest = bracket;
      alignment.base_ns = before + bracket / 2;
      alignment.error_ns = bracket / 2 + 1 + static_cast<std::int64_t>(kEventResolutionNs);
      std::swap(alignment.base, candidate);
    }
  }
}

}  // namespace dovetail
