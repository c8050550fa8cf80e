// Which orders between the two lanes an executor must enforce itself: those of a schedule less the
// ones that a lane's own order already meets.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// One entry an op of the schedule.
struct LaneEdges {
  /// The op of the other lane that this op must wait for; -1 = none. One is enough: the other lane
  /// runs in order, so the latest op that must come first stands for the earlier ones, and what an
  /// earlier op of the same lane has waited for need not be waited for again.
  std::vector<int> wait_for;
  std::vector<std::uint8_t> records;  ///< 1 = some op waits for this one
  std::vector<int> before;  ///< the op of the pass that is before this one on its lane; -1 = none
  /// Of the ops that the pass runs, the last one of each lane that is done once this op is; -1 =
  /// none.
  std::vector<std::array<int, 2>> done_with;
  bool uses_comm = false;  ///< an op of the pass runs on the comm lane
};

/// Fills `edges` for the ops that `pass` runs; ops that it leaves out wait for nothing and count as
/// done. A pass keeps every order that the whole schedule has among the ops that it runs, also one
/// that comes about through an op that it leaves out: a dispatch on the comm lane is done before
/// its combine on the compute lane starts, with or without the experts between them. So what
/// schedule_check proves holds in every pass. Reuses the memory of `edges`.
void find_lane_edges(const Schedule& schedule, PassKind pass, LaneEdges& edges);

}  // namespace dovetail
