#include "framework/exec/lane_edges.hpp"

#include <algorithm>
#include <array>

#include "framework/exec/executor.hpp"

namespace dovetail {

void find_lane_edges(const Schedule& schedule, PassKind pass, LaneEdges& edges) {
  const auto& ops = schedule.ops;
  edges.wait_for.assign(ops.size(), -1);
  edges.records.assign(ops.size(), 0);
  edges.uses_comm = false;
  std::array<int, 2> waited_for = {-1, -1};  // of each lane: the latest op of the other lane
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const Op& op = ops[i];
    if (!runs_in(pass, op.phase)) {
      continue;
    }
    edges.uses_comm |= op.lane == Lane::comm;
    int latest = -1;
    for (const int wait : op.waits) {
      const Op& other = ops[static_cast<std::size_t>(wait)];
      if (other.lane != op.lane && runs_in(pass, other.phase)) {
        latest = std::max(latest, wait);
      }
    }
    int& known = waited_for[static_cast<std::size_t>(op.lane)];
    if (latest > known) {
      known = latest;
      edges.wait_for[i] = latest;
      edges.records[static_cast<std::size_t>(latest)] = 1;
    }
  }
}

}  // namespace dovetail
