// The events of one step: edges between the lanes and, when it is timed, start and end of each op.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "framework/cuda/clock_alignment.hpp"
#include "framework/cuda/event.hpp"
#include "framework/cuda/time_stamp_words.hpp"
#include "framework/exec/lane_edges.hpp"
#include "framework/exec/op_ends.hpp"
#include "framework/exec/op_starts.hpp"

namespace dovetail {

/// What of a step's times is made for it.
enum class StepTiming {
  none,
  /// Start and end of each op.
  whole,
  /// In a graph, where the host is not late and an op starts as soon as what it has to wait for has
  /// ended: only the end, and time stamps in place of that where there are some (EndKind).
  shared
};

/// Kept and reused from step to step in the eager flow; every capture has a set of its own, because
/// an event must not serve a capture and the eager flow at once.
struct StepEvents {
  std::vector<Event> done;   ///< [ops]: empty where nobody waits for the op
  std::vector<Event> end;    ///< [ops] timing events; may be empty unless timed
  std::vector<Event> start;  ///< likewise; empty where times are shared
  /// [ops] whose latest end is the op's start, where times are shared: an event costs time.
  OpsBefore starts_behind;
  Event fork;
  Event join;

  // Where times are shared, else empty; [ops].
  std::vector<int> followed;    ///< the op that each follows at once, from the capture
  std::vector<OpHead> heads;    ///< from the capture; of ops that follow none: whether it is empty
  std::vector<OpTail> tails;    ///< from the capture
  std::vector<EndSource> ends;  ///< find_ends
  std::vector<cudaGraphNode_t> end_nodes;  ///< that record `end`; while the graph is made

  /// Makes what is missing. Not in a capture's way: creating events is allowed there, but slow, and
  /// words must be there before. `stream`: see TimeStampWords.
  void prepare(const LaneEdges& edges, StepTiming timing, cudaStream_t stream);

  /// Whether the op's start has a time of its own: an event, or where times are shared a stamp.
  bool has_start(std::size_t op) const { return starts_behind[op].empty(); }

  /// Where times are shared: the words for time stamps at an op's start and end.
  std::uint64_t* start_stamp(std::size_t op) const { return stamps_.word(op); }

  std::uint64_t* end_stamp(std::size_t op) const { return stamps_.word(heads.size() + op); }

  /// Whether the end of the op is an event; where times are shared, once `ends` is there.
  bool has_end_event(std::size_t op) const {
    return ends.empty() || ends[op].kind == EndKind::event;
  }

  /// Ahead of a replay on `stream`: where it is timed, no time stamp of an earlier one is left.
  void begin_replay(cudaStream_t stream, bool timed);

  /// Fills start_ns and end_ns of the ops that `pass` runs, which have ended; by the host's clock,
  /// by which align_clock has put the events. Looks at time stamps through `stream`, which is idle,
  /// and leaves them cleared. Adds to the clock's error what these add; it is at least what times
  /// were seen to be late by (fill_starts). RunError where a time stamp has not been written, or
  /// lies outside of the replay.
  void read(const Schedule& schedule,
            PassKind pass,
            cudaStream_t stream,
            ClockAlignment& clock,
            OpTimes& times);

 private:
  /// Host times; -1 where there is no time stamp that a time is taken from.
  struct StampTimes {
    std::vector<std::int64_t> start_ns;
    std::vector<std::int64_t> end_ns;
  };

  StampTimes read_stamps(const Schedule& schedule,
                         PassKind pass,
                         cudaStream_t stream,
                         ClockAlignment& clock);

  TimeStampWords stamps_;  ///< [2, ops]: at the start of ops and at their end
  bool stamps_are_clear_ = false;
  std::int64_t replayed_at_ns_ = 0;  ///< the last replay began then
};

}  // namespace dovetail
