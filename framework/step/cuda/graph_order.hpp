// The order of the ops in a full graph that is being captured.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include <cuda_runtime_api.h>

#include "framework/exec/op_predecessors.hpp"

namespace dovetail {

/// The streams of the lanes make the edges between ops. Where ops enqueue nothing, as the exchanges
/// of one rank do, these are too many: a lane's stream gathers all that its ops have waited for,
/// and each op behind one of them would wait for all of it again, by edges that grow in number from
/// layer to layer. There an op is made to wait for the last ops before it alone. Calls come from
/// the thread that holds the baton, in the order of the ops.
class GraphOrder {
 public:
  /// Ahead of the ops of a pass. `edges`: as the graph has them.
  void begin_step(const Schedule& schedule, PassKind pass, const LaneEdges& edges);

  /// Right before and behind an op's work on `stream`, which waits for what the op waits for.
  void enter(std::size_t op, cudaStream_t stream);
  void leave(std::size_t op, cudaStream_t stream);

  /// Of ops that are left, and of the one that is entered.
  const OpPredecessors& predecessors() const { return *predecessors_; }

 private:
  std::optional<OpPredecessors> predecessors_;
  std::vector<std::vector<cudaGraphNode_t>> last_nodes_;  ///< [ops] behind each op
  std::vector<cudaGraphNode_t> nodes_ahead_;              ///< of the op that is entered
  bool is_captured_ = false;
};

}  // namespace dovetail
