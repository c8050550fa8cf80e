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
  std::vector<Event> start;  ///< [ops] timing events; may be empty unless timed
  std::vector<Event> end;
  Event fork;
  Event join;

  /// Makes what is missing. Not in a capture's way: creating events is allowed there, but slow.
  void prepare(const LaneEdges& edges, bool timed);
};

}  // namespace dovetail
