#include "framework/step/cuda/eager_times.hpp"

#include "framework/base/check.hpp"
#include "framework/exec/executor.hpp"

namespace dovetail {
namespace {

constexpr int kTrustedRow = 2;

}  // namespace

void EagerTimes::begin_step(const Schedule& schedule, const LaneEdges& edges) {
  const auto& ops = schedule.ops;
  schedule_ = &schedule;
  follows_.assign(ops.size(), -1);
  next_.assign(ops.size(), -1);
  stamped_in_a_row_.assign(static_cast<std::size_t>(schedule.num_ubatches), {});
  for (std::size_t i = 0; i < ops.size(); ++i) {
    if (edges.before[i] < 0 || edges.wait_for[i] >= 0) {
      continue;
    }
    const auto before = static_cast<std::size_t>(edges.before[i]);
    if (ops[before].ubatch == ops[i].ubatch && edges.records[before] == 0) {
      follows_[i] = edges.before[i];
      next_[before] = static_cast<int>(i);
    }
  }
}

int& EagerTimes::stamped_in_a_row(std::size_t before, std::size_t op) {
  const Op& own = schedule_->ops[op];
  auto& of_ubatch = stamped_in_a_row_[static_cast<std::size_t>(own.ubatch)];
  const Phase phase_before = schedule_->ops[before].phase;
  return of_ubatch[static_cast<std::size_t>(phase_before)][static_cast<std::size_t>(own.phase)];
}

void EagerTimes::run(StepBody& body,
                     const Op& op,
                     std::size_t index,
                     StampOrder order,
                     StepEvents& events,
                     cudaStream_t stream) {
  const TimeStampOffer offer(events.start_stamp(index), events.end_stamp(index), stream, order);
  body.run(op);
  events.heads[index] = offer.is_taken()   ? OpHead::stamped
                        : offer.is_empty() ? OpHead::empty
                                           : OpHead::other;
  events.tails[index] = offer.tells_end() ? OpTail::stamped : OpTail::other;
  if (follows_[index] < 0) {
    return;
  }
  const auto before = static_cast<std::size_t>(follows_[index]);
  int& row = stamped_in_a_row(before, index);
  row = offer.is_taken() ? row + 1 : 0;
  DOVETAIL_CHECK(
      offer.is_taken() || events.ends[before].kind != EndKind::stamp,
      describe_op(static_cast<int>(index), op) +
          " begins otherwise than those of the layers before, and should have told an end");
}

bool EagerTimes::leave(std::size_t index, StepEvents& events) {
  auto& end = events.ends[index];
  const int next = next_[index];
  const bool is_told =
      next >= 0 && stamped_in_a_row(index, static_cast<std::size_t>(next)) >= kTrustedRow;
  if (events.heads[index] == OpHead::empty) {
    end = {EndKind::start};
  } else if (events.tails[index] == OpTail::stamped) {
    end = {EndKind::own};
  } else if (is_told) {
    end = {EndKind::stamp, next};
  } else {
    end = {EndKind::event};
  }
  return end.kind == EndKind::event;
}

}  // namespace dovetail
