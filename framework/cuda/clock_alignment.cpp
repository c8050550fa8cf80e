#include "framework/cuda/clock_alignment.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "framework/base/check.hpp"
#include "framework/base/clock.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/event_resolution.hpp"
#include "framework/cuda/timer_look.hpp"

namespace dovetail {
namespace {

constexpr int kTries = 8;
constexpr std::size_t kStampTries = 4;

/// Host time in the middle of two events, and half of the time between them.
struct Bracket {
  double middle_ns = 0;
  double half_ns = 0;
};

/// The kernel that measures the clock's steps comes first: while it runs the host enqueues the
/// others, so that these run without a gap in which the GPU would wait for the host.
Bracket look_between_events(cudaStream_t stream,
                            const ClockAlignment& alignment,
                            const std::array<Event, 2>& around,
                            std::size_t index) {
  launch_timer_step(alignment.words.word(2 * index), stream);
  around[0].record(stream);
  launch_timer_look(alignment.words.word(2 * index + 1), stream);
  around[1].record(stream);
  check_cuda(cudaEventSynchronize(around[1].raw()), "wait for a look at the GPU's clock");
  const double half_ns = Event::elapsed_ns(around[0], around[1]) / 2;
  const double from_base_ns = Event::elapsed_ns(alignment.base, around[0]) + half_ns;
  return {.middle_ns = static_cast<double>(alignment.base_ns) + from_base_ns, .half_ns = half_ns};
}

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

void align_time_stamps(cudaStream_t stream, ClockAlignment& alignment) {
  DOVETAIL_CHECK(alignment.error_ns >= 0, "the clock of the events has not been aligned");
  if (alignment.words.count() == 0) {
    alignment.words = TimeStampWords(2 * kStampTries, stream);
  }
  const std::array<Event, 2> around = {Event(Event::Kind::timing), Event(Event::Kind::timing)};
  std::array<Bracket, kStampTries> brackets;
  for (std::size_t i = 0; i < kStampTries; ++i) {
    brackets[i] = look_between_events(stream, alignment, around, i);
  }
  const auto words = alignment.words.read(stream);
  std::uint64_t step = 0;
  std::size_t tightest = 0;
  for (std::size_t i = 0; i < kStampTries; ++i) {
    step = std::max(step, words[2 * i]);
    tightest = brackets[i].half_ns < brackets[tightest].half_ns ? i : tightest;
  }
  if (step == 0) {
    throw RunError("the clock that the GPU's kernels read stands still");
  }
  alignment.stamp = words[2 * tightest + 1];
  alignment.stamp_ns = std::llround(brackets[tightest].middle_ns);
  alignment.error_ns += std::llround(std::ceil(brackets[tightest].half_ns + kEventResolutionNs)) +
                        static_cast<std::int64_t>(step);
}

}  // namespace dovetail
