// Which orders between the two lanes an executor must enforce itself: the waits of a schedule less
// those that a lane's own order already meets.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// One entry an op of the schedule.
struct LaneEdges {
  /// The op of the other lane that this op must wait for; -1 = none. One is enough: the other lane
  /// runs in order, so the latest of the op's waits stands for the earlier ones, and what an
  /// earlier op of the same lane has waited for need not be waited for again.
  std::vector<int> wait_for;
  std::vector<std::uint8_t> records;  ///< 1 = some op waits for this one
  bool uses_comm = false;             ///< an op of the pass runs on the comm lane
};

/// Fills `edges` for the ops that `pass` runs; ops that it leaves out wait for nothing and count as
/// done. Reuses the memory of `edges`.
void find_lane_edges(const Schedule& schedule, PassKind pass, LaneEdges& edges);

}  // namespace dovetail
