// Owners of CUDA graphs: the template that a capture yields, and the executable made of it.
#pragma once

#include <utility>

#include <cuda_runtime_api.h>

namespace dovetail {

/// Owns a cudaGraph_t. Move-only. A graph with NCCL nodes must die before its communicators.
class Graph {
 public:
  Graph() = default;

  explicit Graph(cudaGraph_t graph) : graph_(graph) {}

  ~Graph();

  Graph(Graph&& other) noexcept : graph_(std::exchange(other.graph_, nullptr)) {}

  Graph& operator=(Graph&& other) noexcept {
    std::swap(graph_, other.graph_);
    return *this;
  }

  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  cudaGraph_t raw() const { return graph_; }

  /// Nodes of all types; child graphs count as one.
  int num_nodes() const;

 private:
  cudaGraph_t graph_ = nullptr;
};

/// Owns a cudaGraphExec_t. Move-only. Dies before the communicators that its nodes use.
class GraphExec {
 public:
  GraphExec() = default;

  /// Instantiates with the priorities that the streams had at the capture (UseNodePriority) and
  /// AutoFreeOnLaunch.
  explicit GraphExec(const Graph& graph);
  ~GraphExec();

  GraphExec(GraphExec&& other) noexcept : exec_(std::exchange(other.exec_, nullptr)) {}

  GraphExec& operator=(GraphExec&& other) noexcept {
    std::swap(exec_, other.exec_);
    return *this;
  }

  GraphExec(const GraphExec&) = delete;
  GraphExec& operator=(const GraphExec&) = delete;

  /// Copies the graph to the device ahead of its first launch; on `stream`, runs none of its nodes.
  void upload(cudaStream_t stream) const;

  /// Enqueues the whole graph on `stream`. One launch at a time: the caller orders them.
  void launch(cudaStream_t stream) const;

 private:
  cudaGraphExec_t exec_ = nullptr;
};

}  // namespace dovetail
