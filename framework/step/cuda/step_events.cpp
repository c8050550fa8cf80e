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
    starts_with.assign(num_ops, -1);
    for (std::size_t i = 0; i < num_ops; ++i) {
      if (shares_starts) {
        starts_with[i] = edges.follows(i);
      }
      if (starts_with[i] < 0) {
        make_if_missing(start[i], Event::Kind::timing);
      }
      make_if_missing(end[i], Event::Kind::timing);
    }
  }
  make_if_missing(fork, Event::Kind::order);
  make_if_missing(join, Event::Kind::order);
}

}  // namespace dovetail
