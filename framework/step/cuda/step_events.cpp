#include "framework/step/cuda/step_events.hpp"

#include <algorithm>
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
      if (!is_shared) {
        make_if_missing(start[i], Event::Kind::timing);
      }
      make_if_missing(end[i], Event::Kind::timing);
    }
  }
  if (is_shared) {
    followed.assign(num_ops, -1);
    heads.assign(num_ops, OpHead::other);
    tails.assign(num_ops, OpTail::other);
    end_nodes.assign(num_ops, nullptr);
    ends.clear();
    if (stamps_.count() < 2 * num_ops) {
      stamps_ = TimeStampWords(2 * num_ops, stream);
      launch_timer_look(stamps_.word(0), stream);  // CUDA loads it at its first launch
      stamps_.clear(stream);
      stamps_are_clear_ = true;
    }
  }
  make_if_missing(fork, Event::Kind::order);
  make_if_missing(join, Event::Kind::order);
}

void StepEvents::begin_replay(cudaStream_t stream, bool timed) {
  if (timed && !stamps_are_clear_) {
    stamps_.clear(stream);
  }
  stamps_are_clear_ = false;
  replayed_at_ns_ = now_ns();
}

StepEvents::StampTimes StepEvents::read_stamps(const Schedule& schedule,
                                               PassKind pass,
                                               cudaStream_t stream,
                                               ClockAlignment& clock) {
  const std::size_t num_ops = schedule.ops.size();
  StampTimes times{std::vector<std::int64_t>(num_ops, -1), std::vector<std::int64_t>(num_ops, -1)};
  if (heads.empty()) {
    return times;
  }
  align_time_stamps(stream, clock);
  const auto words = stamps_.read(stream);
  // No part of a later step.
  stamps_.clear(stream);
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
    const std::int64_t too_early = replayed_at_ns_ - clock.error_ns - time_ns;
    const std::int64_t too_late = time_ns - clock.error_ns - read_at_ns;
    if (too_early > 0 || too_late > 0) {
      fail("lies " + std::to_string(std::max(too_early, too_late)) +
           " ns outside of the replay; clocks agree to " + std::to_string(clock.error_ns) + " ns");
    }
    return time_ns;
  };
  for (std::size_t i = 0; i < num_ops; ++i) {
    if (heads[i] == OpHead::stamped || (runs_in(pass, schedule.ops[i].phase) && has_start(i))) {
      times.start_ns[i] = time_of(words[i], i, "start");
    }
    if (ends[i].kind == EndKind::own) {
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
  const auto stamps = read_stamps(schedule, pass, stream, clock);
  const bool is_shared = !heads.empty();
  const auto end_ns = [&](std::size_t op) {
    if (has_end_event(op)) {
      return clock.host_ns(end[op]);
    }
    const EndSource& source = ends[op];
    return source.kind == EndKind::stamp ? stamps.start_ns[static_cast<std::size_t>(source.op)]
                                         : stamps.end_ns[op];
  };
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    if (runs_in(pass, schedule.ops[i].phase)) {
      times.start_ns[i] = !has_start(i) ? -1
                          : is_shared   ? stamps.start_ns[i]
                                        : clock.host_ns(start[i]);
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
