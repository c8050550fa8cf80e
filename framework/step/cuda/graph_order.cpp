#include "framework/step/cuda/graph_order.hpp"

#include <algorithm>
#include <utility>

#include "framework/cuda/stream_capture.hpp"

namespace dovetail {

void GraphOrder::begin_step(const Schedule& schedule, PassKind pass, const LaneEdges& edges) {
  predecessors_.emplace(schedule, pass, edges);
  last_nodes_.assign(schedule.ops.size(), {});
}

void GraphOrder::enter(std::size_t op, cudaStream_t stream) {
  if (predecessors_->has_empty(op)) {
    std::vector<cudaGraphNode_t> nodes;
    for (const int other : predecessors_->of(op)) {
      for (const auto& node : last_nodes_[static_cast<std::size_t>(other)]) {
        if (std::find(nodes.begin(), nodes.end(), node) == nodes.end()) {
          nodes.push_back(node);
        }
      }
    }
    set_last_nodes(stream, std::move(nodes));
  }
  is_captured_ = find_last_nodes(stream, nodes_ahead_);
}

void GraphOrder::leave(std::size_t op, cudaStream_t stream) {
  auto& nodes = last_nodes_[op];
  if (find_last_nodes(stream, nodes) && is_captured_ && nodes == nodes_ahead_) {
    predecessors_->set_empty(op);
  }
}

}  // namespace dovetail
