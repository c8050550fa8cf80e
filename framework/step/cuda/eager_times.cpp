#include "framework/step/cuda/eager_times.hpp"

#include <algorithm>

#include "framework/base/check.hpp"
#include "framework/exec/executor.hpp"

namespace dovetail {
namespace {

constexpr int kTrustedRow = 2;

}  // namespace

void EagerTimes::begin_step(const Schedule& schedule,
                            PassKind pass,
                            const LaneEdges& edges,
                            const std::vector<int>& piece_of,
                            bool is_gated) {
  const auto& ops = schedule.ops;
  schedule_ = &schedule;
  piece_of_ = piece_of;
  is_gated_ = is_gated;
  host_lead_.begin_step(schedule, pass, !piece_of.empty());
  launched_ns_.assign(ops.size(), -1);
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
  if (offer.is_taken()) {
    launched_ns_[index] = now_ns();
  }
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

/// Of an op to come. A piece has been captured, and is known.
bool EagerTimes::begins_with_stamp(std::size_t op, const StepEvents& events) {
  if (!piece_of_.empty() && piece_of_[op] >= 0) {
    return events.heads[op] == OpHead::stamped;
  }
  return stamped_in_a_row(static_cast<std::size_t>(follows_[op]), op) >= kTrustedRow;
}

bool EagerTimes::leave(std::size_t index, StepEvents& events) {
  auto& end = events.ends[index];
  const int next = next_[index];
  const bool is_exchanged = is_exchange(schedule_->ops[index].phase);
  const bool is_told = next >= 0 &&
                       (!is_exchanged || (!is_gated_ && host_lead_.is_expected(index))) &&
                       begins_with_stamp(static_cast<std::size_t>(next), events);
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

std::int64_t EagerTimes::judge(const StepEvents& events,
                               const OpTimes& times,
                               std::int64_t error_ns) {
  std::int64_t doubt_ns = 0;
  for (std::size_t i = 0; i < next_.size() && !is_gated_; ++i) {
    const auto kind = events.ends[i].kind;
    const bool is_known = kind == EndKind::stamp || kind == EndKind::event;
    const int next = next_[i];
    if (!is_exchange(schedule_->ops[i].phase) || !is_known || next < 0 ||
        launched_ns_[static_cast<std::size_t>(next)] < 0) {
      continue;
    }
    const auto launched_ns = launched_ns_[static_cast<std::size_t>(next)];
    const bool is_right = host_lead_.tells_end(i, launched_ns, times.end_ns[i] - error_ns);
    if (kind == EndKind::stamp && !is_right) {
      doubt_ns = std::max(doubt_ns, times.end_ns[i] - times.start_ns[i]);
    }
  }
  return doubt_ns;
}

}  // namespace dovetail
