#include "framework/step/cuda/eager_times.hpp"

#include "framework/base/check.hpp"
#include "framework/exec/executor.hpp"

namespace dovetail {

void EagerTimes::begin_step(const Schedule& schedule, const LaneEdges& edges) {
  const auto& ops = schedule.ops;
  schedule_ = &schedule;
  follows_.assign(ops.size(), -1);
  next_.assign(ops.size(), -1);
  begins_stamped_.assign(static_cast<std::size_t>(schedule.num_ubatches), {});
  for (std::size_t i = 0; i < ops.size(); ++i) {
    if (edges.before[i] < 0 || edges.wait_for[i] >= 0) {
      continue;
    }
    const auto before = static_cast<std::size_t>(edges.before[i]);
    const bool is_awaited = edges.records[before] != 0;  // the other lane goes on at once
    if (ops[before].ubatch == ops[i].ubatch && !is_awaited && !is_exchange(ops[before].phase)) {
      follows_[i] = edges.before[i];
      next_[before] = static_cast<int>(i);
    }
  }
}

void EagerTimes::run(StepBody& body,
                     const Op& op,
                     std::size_t index,
                     StampOrder order,
                     StepEvents& events,
                     cudaStream_t stream) {
  const TimeStampOffer offer(events.start_stamp(index), events.end_stamp(index), stream, order);
  body.run(op);
  events.heads[index] = offer.is_taken() ? OpHead::stamped : OpHead::other;
  events.tails[index] = offer.tells_end() ? OpTail::stamped : OpTail::other;
  begins_stamped(op) = offer.is_taken();
  const int before = follows_[index];
  DOVETAIL_CHECK(
      offer.is_taken() || before < 0 ||
          events.ends[static_cast<std::size_t>(before)].kind != EndKind::stamp,
      describe_op(static_cast<int>(index), op) +
          " begins otherwise than that of the layer before, and should have told an end");
}

bool EagerTimes::leave(std::size_t index, StepEvents& events) {
  auto& end = events.ends[index];
  const int next = next_[index];
  if (events.tails[index] == OpTail::stamped) {
    end = {EndKind::own};
  } else if (next >= 0 && begins_stamped(schedule_->ops[static_cast<std::size_t>(next)])) {
    end = {EndKind::stamp, next};
  } else {
    end = {EndKind::event};
  }
  return end.kind == EndKind::event;
}

}  // namespace dovetail
