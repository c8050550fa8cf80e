#include "framework/step/cuda/step_events.hpp"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>

#include "framework/base/clock.hpp"
#include "framework/base/error.hpp"
#include "framework/cuda/timer_look.hpp"

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

void StepEvents::prepare(const LaneEdges& edges, StepTiming timing, cudaStream_t stream) {
  const std::size_t num_ops = edges.records.size();
  timing_ = timing;
  grow(done, num_ops);
  for (std::size_t i = 0; i < num_ops; ++i) {
    if (edges.records[i] != 0) {
      make_if_missing(done[i], Event::Kind::order);
    }
  }
  if (timing != StepTiming::none) {
    prepare_times(edges, stream);
  }
  make_if_missing(fork, Event::Kind::order);
  make_if_missing(join, Event::Kind::order);
}

void StepEvents::make_times(std::size_t num_ops, cudaStream_t stream) {
  grow(start, num_ops);
  grow(end, num_ops);
  for (std::size_t i = 0; i < num_ops; ++i) {
    make_if_missing(end[i], Event::Kind::timing);
  }
  if (stamps_.count() < 2 * num_ops) {
    stamps_ = TimeStampWords(2 * num_ops, stream);
    launch_timer_look(stamps_.word(0), stream);  // CUDA loads it at its first launch
    stamps_.clear_for_all(stream);
    stamps_are_clear_ = true;
  }
}

void StepEvents::prepare_times(const LaneEdges& edges, cudaStream_t stream) {
  const std::size_t num_ops = edges.records.size();
  make_times(num_ops, stream);
  begun_ns.assign(num_ops, -1);
  has_start_event_.assign(num_ops, 0);
  starts_behind.resize(num_ops);
  for (std::size_t i = 0; i < num_ops; ++i) {
    starts_behind[i].clear();
    for (const int other : {edges.before[i], edges.wait_for[i]}) {
      if (other >= 0) {
        starts_behind[i].push_back(other);
      }
    }
  }
  if (!are_captured) {
    heads.assign(num_ops, OpHead::other);
    tails.assign(num_ops, OpTail::other);
    ends.clear();
  }
  if (timing_ == StepTiming::shared) {
    followed.assign(num_ops, -1);
    end_nodes.assign(num_ops, nullptr);
  } else if (!are_captured) {
    ends.assign(num_ops, {EndKind::event});
  }
}

void StepEvents::give_start(std::size_t op) {
  make_if_missing(start[op], Event::Kind::timing);
  has_start_event_[op] = 1;
  starts_behind[op].clear();
}

void StepEvents::begin_step(cudaStream_t stream, bool timed) {
  if (timed && !stamps_are_clear_) {
    stamps_.clear(stream);
  }
  stamps_are_clear_ = false;
  begun_at_ns_ = now_ns();
}

bool StepEvents::has_start_stamp(const Schedule& schedule, PassKind pass, std::size_t op) const {
  return heads[op] == OpHead::stamped ||
         (timing_ == StepTiming::shared && runs_in(pass, schedule.ops[op].phase) && has_start(op));
}

StepEvents::StampTimes StepEvents::read_stamps(const Schedule& schedule,
                                               PassKind pass,
                                               cudaStream_t stream,
                                               ClockAlignment& clock) {
  const std::size_t num_ops = schedule.ops.size();
  StampTimes times{std::vector<std::int64_t>(num_ops, -1), std::vector<std::int64_t>(num_ops, -1)};
  bool has_any = false;
  for (std::size_t i = 0; i < num_ops; ++i) {
    has_any |= has_start_stamp(schedule, pass, i) || tails[i] == OpTail::stamped;
  }
  if (!has_any) {
    return times;
  }
  align_time_stamps(stream, clock);
  const auto words = stamps_.read(stream);
  // No part of a later step, whose lanes may be other streams.
  stamps_.clear_for_all(stream);
  stamps_are_clear_ = true;
  const std::int64_t read_at_ns = now_ns();
  const auto time_of = [&](std::uint64_t word, std::size_t op, const char* what) {
    const auto fail = [&](const std::string& found) {
      throw RunError(describe_op(static_cast<int>(op), schedule.ops[op]) +
                     ": the time stamp of its " + what + " " + found);
    };
    if (word == 0) {
      fail("has not been written");
    }
    const std::int64_t time_ns = clock.host_ns_of_stamp(word);
    const std::int64_t too_early = begun_at_ns_ - clock.error_ns - time_ns;
    const std::int64_t too_late = time_ns - clock.error_ns - read_at_ns;
    if (too_early > 0 || too_late > 0) {
      fail("lies " + std::to_string(std::max(too_early, too_late)) +
           " ns outside of the step; clocks agree to " + std::to_string(clock.error_ns) + " ns");
    }
    return time_ns;
  };
  for (std::size_t i = 0; i < num_ops; ++i) {
    if (has_start_stamp(schedule, pass, i)) {
      times.start_ns[i] = time_of(words[i], i, "start");
    }
    if (tails[i] == OpTail::stamped) {
      times.end_ns[i] = time_of(words[num_ops + i], i, "end");
    }
  }
  return times;
}

void StepEvents::read(const Schedule& schedule,
                      PassKind pass,
                      cudaStream_t stream,
                      ClockAlignment& clock,
                      OpTimes& times) {
  stamp_times_ = read_stamps(schedule, pass, stream, clock);
  const auto start_of = [&](std::size_t op) {
    if (timing_ == StepTiming::shared) {
      return has_start(op) ? stamp_times_.start_ns[op] : -1;
    }
    return has_start_event_[op] != 0 ? clock.host_ns(start[op]) : begun_ns[op];
  };
  const auto end_of = [&](std::size_t op) {
    if (has_end_event(op)) {
      return clock.host_ns(end[op]);
    }
    const EndSource& source = ends[op];
    return source.kind == EndKind::stamp
               ? stamp_times_.start_ns[static_cast<std::size_t>(source.op)]
               : stamp_times_.end_ns[op];
  };
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    if (runs_in(pass, schedule.ops[i].phase)) {
      times.start_ns[i] = start_of(i);
      times.end_ns[i] = end_of(i);
    }
  }
  const std::int64_t late_ns = fill_starts(schedule, pass, starts_behind, ends, times);
  if (timing_ == StepTiming::eager) {
    use_own_starts(begun_ns, stamp_times_.start_ns, starts_behind, times);
  }
  std::int64_t earliest_ns = clock.base_ns;
  for (const std::int64_t start_ns : times.start_ns) {
    earliest_ns = start_ns >= 0 ? std::min(earliest_ns, start_ns) : earliest_ns;
  }
  clock.widen_error(earliest_ns);
  clock.error_ns = std::max(clock.error_ns, late_ns);
}

std::int64_t StepEvents::most_apart_ns(const OpTimes& times) const {
  std::int64_t most_ns = 0;
  for (std::size_t i = 0; i < has_start_event_.size(); ++i) {
    if (has_start_event_[i] == 0 || times.start_ns[i] < 0) {
      continue;
    }
    if (heads[i] == OpHead::stamped) {
      most_ns = std::max(most_ns, std::abs(stamp_times_.start_ns[i] - times.start_ns[i]));
    }
    if (tails[i] == OpTail::stamped && has_end_event(i)) {
      most_ns = std::max(most_ns, std::abs(stamp_times_.end_ns[i] - times.end_ns[i]));
    }
  }
  return most_ns;
}

}  // namespace dovetail
