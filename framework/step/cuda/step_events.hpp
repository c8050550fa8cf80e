// The events of one step: edges between the lanes and, when it is timed, start and end of each op.
#pragma once

#include <vector>

#include "framework/cuda/event.hpp"
#include "framework/exec/lane_edges.hpp"

namespace dovetail {

/// Kept and reused from step to step in the eager flow; every capture has a set of its own, because
/// an event must not serve a capture and the eager flow at once.
struct StepEvents {
  std::vector<Event> done;   ///< [ops]: empty where nobody waits for the op
  std::vector<Event> start;  ///< [ops] timing events; empty where not timed, or starts_with says
  std::vector<Event> end;
  /// [ops] the op whose end is this op's start, as events between kernels cost time; -1 = it has a
  /// start of its own.
  std::vector<int> starts_with;
  Event fork;
  Event join;

  /// Makes what is missing. Not in a capture's way: creating events is allowed there, but slow.
  /// `shares_starts`: nothing comes between an op and the next one of its lane, as in a graph.
  void prepare(const LaneEdges& edges, bool timed, bool shares_starts);

  /// Of a timed op.
  const Event& start_of(std::size_t op) const {
    return starts_with[op] < 0 ? start[op] : end[static_cast<std::size_t>(starts_with[op])];
  }
};

}  // namespace dovetail
