// The events of one step: edges between the lanes and, when it is timed, start and end of each op.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "framework/cuda/clock_alignment.hpp"
#include "framework/cuda/event.hpp"
#include "framework/exec/lane_edges.hpp"

namespace dovetail {

/// Kept and reused from step to step in the eager flow; every capture has a set of its own, because
/// an event must not serve a capture and the eager flow at once.
struct StepEvents {
  std::vector<Event> done;   ///< [ops]: empty where nobody waits for the op
  std::vector<Event> end;    ///< [ops] timing events; may be empty unless timed
  std::vector<Event> start;  ///< likewise; empty where the ends of other ops say it, too
  /// [ops] the op before it on its lane and the one that it waits for, -1 = none: where there are
  /// some, the later end of them is the op's start. An event costs time.
  std::vector<std::array<int, 2>> starts_behind;
  Event fork;
  Event join;

  /// Makes what is missing. Not in a capture's way: creating events is allowed there, but slow.
  /// `shares_starts`: an op starts as soon as what it has to wait for has ended, as in a graph.
  void prepare(const LaneEdges& edges, bool timed, bool shares_starts);

  /// Whether the op's start is an event of its own.
  bool has_start(std::size_t op) const { return starts_behind[op] == kNobody; }

  /// Host time of a timed op's start; `end_ns` [ops] holds that of the ends of the ops before it.
  std::int64_t start_ns(std::size_t op,
                        const ClockAlignment& clock,
                        const std::vector<std::int64_t>& end_ns) const;

 private:
  static constexpr std::array<int, 2> kNobody = {-1, -1};
};

}  // namespace dovetail
