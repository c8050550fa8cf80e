// What a captured graph looks like: nodes, edges, who is ordered before whom. For tests that assert
// the graph itself, and for counts in records.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <cuda_runtime_api.h>

namespace dovetail {

/// Who comes before whom in an acyclic graph.
class Reachability {
 public:
  /// Edges (from, to) with both in [0, num_nodes). Throws ContractError where there is a cycle.
  Reachability(int num_nodes, const std::vector<std::pair<int, int>>& edges);

  /// True if a path with one edge at least leads from `from` to `to`.
  bool reaches(int from, int to) const;

 private:
  std::size_t words_;
  std::vector<std::uint64_t> bits_;  ///< [num_nodes, words]: row `from` holds what it reaches
};

struct GraphNode {
  cudaGraphNode_t handle = nullptr;
  cudaGraphNodeType type = cudaGraphNodeTypeEmpty;
  std::string function;  ///< of kernel nodes: the mangled name; empty where CUDA does not say
};

struct GraphShape {
  std::vector<GraphNode> nodes;
  std::vector<std::pair<int, int>> edges;  ///< indices into nodes

  Reachability reachability() const { return {static_cast<int>(nodes.size()), edges}; }

  /// Nodes by type ("kernel", "memcpy", "memset", "event record", ...).
  std::map<std::string, int> count_by_type() const;
};

/// The top level of `graph`, which must live while handles are used. Throws RunError.
GraphShape inspect(cudaGraph_t graph);

/// The launch of a kernel node.
struct KernelGrid {
  std::int64_t blocks = 0;
  int threads = 0;       ///< of a block
  int shared_bytes = 0;  ///< that the launch adds to a block's own
};

/// Also of library kernels. Throws RunError for other nodes.
KernelGrid grid_of(const GraphNode& node);

/// The first argument of a kernel node. Only for kernels whose first parameter is a 32-bit integer.
std::int32_t first_kernel_argument(const GraphNode& node);

/// Whether an argument of a kernel node is an address in [begin, end); of any kernel. Throws
/// RunError for other nodes.
bool has_argument_within(const GraphNode& node, const void* begin, const void* end);

}  // namespace dovetail
