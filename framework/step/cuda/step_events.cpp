#include "framework/step/cuda/step_events.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "framework/base/clock.hpp"
#include "framework/base/error.hpp"

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
  const bool is_shared = timing == StepTiming::shared;
  grow(done, num_ops);
  for (std::size_t i = 0; i < num_ops; ++i) {
    if (edges.records[i] != 0) {
      make_if_missing(done[i], Event::Kind::order);
    }
  }
  if (timing != StepTiming::none) {
    grow(start, num_ops);
    grow(end, num_ops);
    starts_behind.assign(num_ops, {});
    for (std::size_t i = 0; i < num_ops; ++i) {
      for (const int other : {edges.before[i], edges.wait_for[i]}) {
        if (is_shared && other >= 0) {
          starts_behind[i].push_back(other);
        }
      }
      if (has_start(i)) {
        make_if_missing(start[i], Event::Kind::timing);
      }
      make_if_missing(end[i], Event::Kind::timing);
    }
  }
  if (is_shared) {
    followed.assign(num_ops, -1);
    heads.assign(num_ops, OpHead::other);
    end_nodes.assign(num_ops, nullptr);
    ends.clear();
    if (stamps.count() < num_ops) {
      stamps = TimeStampWords(num_ops, stream);
      stamps_are_clear_ = true;
    }
  }
  make_if_missing(fork, Event::Kind::order);
  make_if_missing(join, Event::Kind::order);
}

void StepEvents::begin_replay(cudaStream_t stream, bool timed) {
  if (timed && !stamps_are_clear_) {
    stamps.clear(stream);
  }
  stamps_are_clear_ = false;
  replayed_at_ns_ = now_ns();
}

/// [ops] host times; -1 where there is no time stamp.
std::vector<std::int64_t> StepEvents::read_stamps(const Schedule& schedule,
                                                  cudaStream_t stream,
                                                  ClockAlignment& clock) {
  std::vector<std::int64_t> stamps_ns(schedule.ops.size(), -1);
  if (std::none_of(
          heads.begin(), heads.end(), [](OpHead head) { return head == OpHead::stamped; })) {
    return stamps_ns;
  }
  align_time_stamps(stream, clock);
  const auto words = stamps.read(stream);
  // No part of a later step.
  stamps.clear(stream);
  stamps_are_clear_ = true;
  const std::int64_t read_at_ns = now_ns();
  for (std::size_t i = 0; i < stamps_ns.size(); ++i) {
    if (heads[i] != OpHead::stamped) {
      continue;
    }
    const auto fail = [&](const std::string& what) {
      throw RunError(describe_op(static_cast<int>(i), schedule.ops[i]) + ": its time stamp " +
                     what);
    };
    if (words[i] == 0) {
      fail("has not been written");
    }
    stamps_ns[i] = clock.host_ns_of_stamp(words[i]);
    const std::int64_t too_early = replayed_at_ns_ - clock.error_ns - stamps_ns[i];
    const std::int64_t too_late = stamps_ns[i] - clock.error_ns - read_at_ns;
    if (too_early > 0 || too_late > 0) {
      fail("lies " + std::to_string(std::max(too_early, too_late)) +
           " ns outside of the replay; clocks agree to " + std::to_string(clock.error_ns) + " ns");
    }
  }
  return stamps_ns;
}

void StepEvents::read(const Schedule& schedule,
                      PassKind pass,
                      cudaStream_t stream,
                      ClockAlignment& clock,
                      OpTimes& times) {
  const auto stamps_ns = read_stamps(schedule, stream, clock);
  const auto end_ns = [&](std::size_t op) {
    if (has_end_event(op)) {
      return clock.host_ns(end[op]);
    }
    const EndSource& source = ends[op];
    return source.kind == EndKind::stamp ? stamps_ns[static_cast<std::size_t>(source.op)] : -1;
  };
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    if (runs_in(pass, schedule.ops[i].phase)) {
      times.start_ns[i] = has_start(i) ? clock.host_ns(start[i]) : -1;
      times.end_ns[i] = end_ns(i);
    }
  }
  const std::int64_t late_ns = fill_starts(schedule, pass, starts_behind, ends, times);
  std::int64_t earliest_ns = clock.base_ns;
  for (const std::int64_t start_ns : times.start_ns) {
    earliest_ns = start_ns >= 0 ? std::min(earliest_ns, start_ns) : earliest_ns;
  }
  clock.widen_error(earliest_ns);
  clock.error_ns = std::max(clock.error_ns, late_ns);
}

}  // namespace dovetail
