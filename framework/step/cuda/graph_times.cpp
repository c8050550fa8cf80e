#include "framework/step/cuda/graph_times.hpp"

#include <utility>
#include <vector>

#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/stream_capture.hpp"
#include "framework/cuda/time_stamp.hpp"
#include "framework/cuda/timer_look.hpp"

namespace dovetail {

GraphTimes::GraphTimes(c10::DeviceIndex device)
    : streams_({c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device),
                c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device)}),
      mark_(Event::Kind::order) {}

void GraphTimes::begin_step(const Schedule& schedule, PassKind pass) {
  has_nodes_ = {};
  last_op_ = static_cast<int>(schedule.ops.size()) - 1;
  while (last_op_ >= 0 && !runs_in(pass, schedule.ops[static_cast<std::size_t>(last_op_)].phase)) {
    --last_op_;
  }
}

cudaGraphNode_t GraphTimes::add_event(Lane lane, const Event& event, cudaStream_t stream) {
  const auto index = static_cast<std::size_t>(lane);
  mark_.record(stream);
  mark_.hold(streams_[index]);
  event.record_external(streams_[index]);
  has_nodes_[index] = true;
  std::vector<cudaGraphNode_t> last;
  DOVETAIL_CHECK(find_last_nodes(streams_[index], last) && last.size() == 1,
                 "an event has not become a node of the graph");
  return last.front();
}

void GraphTimes::enter(std::size_t index, const StepEvents& events, cudaStream_t stream) {
  if (events.has_start(index)) {
    launch_timer_look(events.start_stamp(index), stream);
  }
}

void GraphTimes::run(StepBody& body,
                     const Op& op,
                     std::size_t index,
                     const OpPredecessors& predecessors,
                     StepEvents& events,
                     cudaStream_t stream) {
  events.starts_behind[index] = predecessors.of(index);
  events.followed[index] = predecessors.followed_by(index);
  auto* const start = events.followed[index] < 0 ? nullptr : events.start_stamp(index);
  const TimeStampOffer offer(start, events.end_stamp(index), stream);
  body.run(op);
  if (offer.is_taken()) {
    events.heads[index] = OpHead::stamped;
  } else if (offer.is_empty()) {
    events.heads[index] = OpHead::empty;
  }
  if (offer.tells_end()) {
    events.tails[index] = OpTail::stamped;
  }
}

void GraphTimes::leave(const Op& op,
                       std::size_t index,
                       const OpPredecessors& predecessors,
                       StepEvents& events,
                       cudaStream_t stream) {
  if (predecessors.is_empty(index)) {
    events.heads[index] = OpHead::empty;
    return;
  }
  DOVETAIL_CHECK(events.heads[index] != OpHead::empty,
                 describe_op(static_cast<int>(index), op) +
                     " was told to have no work, and the graph has some of it");
  if (static_cast<int>(index) == last_op_) {
    launch_timer_look(events.end_stamp(index), stream);
    events.tails[index] = OpTail::stamped;
  } else {
    events.end_nodes[index] = add_event(op.lane, events.end[index], stream);
  }
}

void GraphTimes::take_out_needless_events(const Schedule& schedule,
                                          PassKind pass,
                                          StepEvents& events) {
  events.ends = find_ends(schedule, pass, events.followed, events.heads, events.tails);
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    auto* const node = std::exchange(events.end_nodes[i], nullptr);
    if (node != nullptr && !events.has_end_event(i)) {
      check_cuda(cudaGraphDestroyNode(node), "take an event out of a graph");
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
