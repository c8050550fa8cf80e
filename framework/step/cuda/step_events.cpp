#include "framework/step/cuda/step_events.hpp"

#include <algorithm>

namespace dovetail {
namespace {

void make_if_missing(Event& event, Event::Kind kind) {
  if (!event) {
    event = Event(kind);
  }
}

void grow(std::vector<Event>& events, std::size_t size) {
  if (events.size() < size) {
    events.resize(size);
  }
}

}  // namespace

void StepEvents::prepare(const LaneEdges& edges, bool timed, bool shares_starts) {
  const std::size_t num_ops = edges.records.size();
  grow(done, num_ops);
  for (std::size_t i = 0; i < num_ops; ++i) {
    if (edges.records[i] != 0) {
      make_if_missing(done[i], Event::Kind::order);
    }
  }
  if (timed) {
    grow(start, num_ops);
    grow(end, num_ops);
    starts_behind.assign(num_ops, kNobody);
    for (std::size_t i = 0; i < num_ops; ++i) {
      if (shares_starts) {
        starts_behind[i] = {edges.before[i], edges.wait_for[i]};
      }
      if (has_start(i)) {
        make_if_missing(start[i], Event::Kind::timing);
      }
      make_if_missing(end[i], Event::Kind::timing);
    }
  }
  make_if_missing(fork, Event::Kind::order);
  make_if_missing(join, Event::Kind::order);
}

std::int64_t StepEvents::start_ns(std::size_t op,
                                  const ClockAlignment& clock,
                                  const std::vector<std::int64_t>& end_ns) const {
  std::int64_t latest_ns = has_start(op) ? clock.host_ns(start[op]) : -1;
  for (const int other : starts_behind[op]) {
    if (other >= 0) {
      latest_ns = std::max(latest_ns, end_ns[static_cast<std::size_t>(other)]);
    }
  }
  return latest_ns;
}

}  // namespace dovetail
