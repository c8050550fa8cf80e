#include "framework/step/cuda/graph_times.hpp"

#include <utility>

#include "framework/cuda/time_stamp.hpp"

namespace dovetail {

GraphTimes::GraphTimes(c10::DeviceIndex device)
    : streams_({c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device),
                c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device)}),
      mark_(Event::Kind::order) {}

void GraphTimes::add_event(Lane lane, const Event& event, cudaStream_t stream) {
  mark_.record(stream);
  add_event_behind(lane, event, mark_);
}

void GraphTimes::add_event_behind(Lane lane, const Event& event, const Event& behind) {
  const auto index = static_cast<std::size_t>(lane);
  behind.hold(streams_[index]);
  event.record_external(streams_[index]);
  has_nodes_[index] = true;
}

void GraphTimes::run(StepBody& body,
                     const Op& op,
                     std::size_t index,
                     const OpPredecessors& predecessors,
                     StepEvents& events,
                     cudaStream_t stream) {
  events.starts_behind[index] = predecessors.of(index);
  events.followed[index] = predecessors.followed_by(index);
  if (events.followed[index] < 0) {
    body.run(op);
    return;
  }
  const TimeStampOffer offer(events.stamps.word(index), stream);
  body.run(op);
  if (offer.is_taken()) {
    events.heads[index] = OpHead::stamped;
  }
}

/// Not earlier: whether an op's end needs an event is known once the op that follows it has run.
void GraphTimes::add_ends(const Schedule& schedule,
                          PassKind pass,
                          const OpPredecessors& predecessors,
                          StepEvents& events) {
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    if (predecessors.is_empty(i)) {
      events.heads[i] = OpHead::empty;
    }
  }
  events.ends = find_ends(schedule, pass, events.followed, events.heads);
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    if (events.has_end_event(i)) {
      add_event_behind(schedule.ops[i].lane, events.end[i], events.done[i]);
    }
  }
}

void GraphTimes::join(cudaStream_t stream) {
  for (std::size_t lane = 0; lane < streams_.size(); ++lane) {
    if (std::exchange(has_nodes_[lane], false)) {
      mark_.record(streams_[lane]);
      mark_.hold(stream);
    }
  }
}

}  // namespace dovetail
