// The events of one step: edges between the lanes and, when it is timed, what tells start and end
// of each op.
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
  /// Where the host enqueues op by op, and in the pieces of a graph: the end of each op, by a time
  /// stamp where it can be (EagerTimes). An op starts behind the ends of what it waits for, and not
  /// before the host comes to it.
  eager,
  /// In a graph, where the host is not late and an op starts as soon as what it has to wait for has
  /// ended: only the end, and time stamps in place of that where there are some (EndKind).
  shared
};

/// Kept and reused from step to step in the eager flow; every capture has a set of its own, because
/// an event must not serve a capture and the eager flow at once.
struct StepEvents {
  /// [ops]: empty where nobody waits for the op; not recorded where `end` is, outside of graphs
  std::vector<Event> done;
  std::vector<Event> end;    ///< [ops] timing events; may be empty unless timed
  std::vector<Event> start;  ///< likewise; of the ops of give_start
  OpsBefore starts_behind;   ///< [ops], where it is timed
  /// [ops] where StepTiming::eager: when the host came to the op; -1 = not known, or `start` tells.
  std::vector<std::int64_t> begun_ns;
  Event fork;
  Event join;

  // Where it is timed; [ops].
  std::vector<OpHead> heads;  ///< which ops have written a time stamp at their start, or are empty
  std::vector<OpTail> tails;  ///< likewise at their end
  std::vector<EndSource> ends;  ///< by find_ends where times are shared, else by EagerTimes
  /// These are of a capture that is over, and stay as they are.
  bool are_captured = false;

  // Where times are shared, else empty; [ops].
  std::vector<int> followed;               ///< the op that each follows at once, from the capture
  std::vector<cudaGraphNode_t> end_nodes;  ///< that record `end`; while the graph is made

  /// Makes what is missing. Not in a capture's way: creating events is allowed there, but slow, and
  /// words must be there before. `stream`: see TimeStampWords.
  void prepare(const LaneEdges& edges, StepTiming timing, cudaStream_t stream);

  /// Makes what times of so many ops are taken by, so that no step has to, which would take longer.
  /// Not in a capture.
  void make_times(std::size_t num_ops, cudaStream_t stream);

  /// Behind prepare: `start` of the op, which begins with something that belongs to none, is an
  /// event.
  void give_start(std::size_t op);

  /// Where times are shared: whether the op's start has a time stamp of its own.
  bool has_start(std::size_t op) const { return starts_behind[op].empty(); }

  /// The words for time stamps at an op's start and end.
  std::uint64_t* start_stamp(std::size_t op) const { return stamps_.word(op); }

  std::uint64_t* end_stamp(std::size_t op) const { return stamps_.word(heads.size() + op); }

  /// Whether the end of the op is an event; where times are shared, once `ends` is there.
  bool has_end_event(std::size_t op) const {
    return ends.empty() || ends[op].kind == EndKind::event;
  }

  /// Ahead of a step on `stream` whose kernels write time stamps: where it is timed, none of an
  /// earlier one is left.
  void begin_step(cudaStream_t stream, bool timed);

  /// Fills start_ns and end_ns of the ops that `pass` runs, which have ended; by the host's clock,
  /// by which align_clock has put the events. Looks at time stamps through `stream`, which is idle,
  /// and leaves them cleared. Adds to the clock's error what these add; it is at least what times
  /// were seen to be late by (fill_starts). RunError where a time stamp has not been written, or
  /// lies outside of the step.
  void read(const Schedule& schedule,
            PassKind pass,
            cudaStream_t stream,
            ClockAlignment& clock,
            OpTimes& times);

  /// Of the step that `times` have been read of: how far an event and a time stamp of the same
  /// moment are apart at most, of ops that have both. 0 where none has.
  std::int64_t most_apart_ns(const OpTimes& times) const;

 private:
  /// Host times; -1 where there is no time stamp that a time is taken from.
  struct StampTimes {
    std::vector<std::int64_t> start_ns;
    std::vector<std::int64_t> end_ns;
  };

  void prepare_times(const LaneEdges& edges, cudaStream_t stream);
  bool has_start_stamp(const Schedule& schedule, PassKind pass, std::size_t op) const;

  StampTimes read_stamps(const Schedule& schedule,
                         PassKind pass,
                         cudaStream_t stream,
                         ClockAlignment& clock);

  StepTiming timing_ = StepTiming::none;
  std::vector<std::uint8_t> has_start_event_;  ///< [ops], where it is timed
  TimeStampWords stamps_;                      ///< [2, ops]: at the start of ops and at their end
  bool stamps_are_clear_ = false;
  std::int64_t begun_at_ns_ = 0;  ///< the last step that writes any began then
  StampTimes stamp_times_;        ///< of the last read
};

}  // namespace dovetail
