#include "framework/exec/graph_pieces.hpp"

#include "framework/exec/lane_edges.hpp"

namespace dovetail {

std::vector<GraphPiece> graph_pieces(const Schedule& schedule, PassKind pass) {
  LaneEdges edges;
  find_lane_edges(schedule, pass, edges);
  std::vector<GraphPiece> pieces;
  bool open = false;
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    const Op& op = schedule.ops[i];
    if (op.lane != Lane::compute || is_exchange(op.phase) || !runs_in(pass, op.phase)) {
      open = false;
      continue;
    }
    const int index = static_cast<int>(i);
    if (open && schedule.ops[i - 1].ubatch == op.ubatch && edges.wait_for[i] < 0) {
      pieces.back().end = index + 1;
    } else {
      pieces.push_back({index, index + 1});
    }
    open = true;
  }
  return pieces;
}

}  // namespace dovetail
