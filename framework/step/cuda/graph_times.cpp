#include "framework/step/cuda/graph_times.hpp"

#include <utility>

#include "framework/cuda/time_stamp.hpp"
#include "framework/exec/op_followers.hpp"

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

void GraphTimes::run(
    StepBody& body, const Op& op, std::size_t index, StepEvents& events, cudaStream_t stream) {
  if (events.followed[index] < 0) {
    body.run(op);
    return;
  }
  const TimeStampOffer offer(events.stamps.word(index), stream);
  body.run(op);
  if (offer.is_taken()) {
    events.heads[index] = OpHead::stamped;
  } else if (offer.is_untouched()) {
    events.heads[index] = OpHead::empty;
  }
}

/// Not earlier: whether an op's end needs an event is known once the op that follows it has run.
void GraphTimes::add_ends(const Schedule& schedule, PassKind pass, StepEvents& events) {
  events.ends = find_ends(schedule, pass, events.followed, events.heads);
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    if (runs_in(pass, schedule.ops[i].phase) && events.has_end_event(i)) {
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
