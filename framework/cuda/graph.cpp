#include "framework/cuda/graph.hpp"

#include <cstddef>

#include "framework/cuda/check.hpp"

namespace dovetail {

Graph::~Graph() {
  if (graph_ != nullptr) {
    static_cast<void>(cudaGraphDestroy(graph_));
  }
}

int Graph::num_nodes() const {
  std::size_t count = 0;
  check_cuda(cudaGraphGetNodes(graph_, nullptr, &count), "count the nodes of a graph");
  return static_cast<int>(count);
}

GraphExec::GraphExec(const Graph& graph) {
  check_cuda(cudaGraphInstantiateWithFlags(&exec_,
                                           graph.raw(),
                                           cudaGraphInstantiateFlagAutoFreeOnLaunch |
                                               cudaGraphInstantiateFlagUseNodePriority),
             "instantiate a graph");
}

GraphExec::~GraphExec() {
  if (exec_ != nullptr) {
    static_cast<void>(cudaGraphExecDestroy(exec_));
  }
}

void GraphExec::upload(cudaStream_t stream) const {
  check_cuda(cudaGraphUpload(exec_, stream), "upload a graph");
}

void GraphExec::launch(cudaStream_t stream) const {
  check_cuda(cudaGraphLaunch(exec_, stream), "launch a graph");
}

}  // namespace dovetail
