// A stream capture as a scope: however it is left, both streams leave the capture.
#pragma once

#include <vector>

#include <cuda_runtime_api.h>

#include "framework/cuda/graph.hpp"

namespace dovetail {

/// Captures what `origin`, and `forked` once it has waited for an event of `origin`, are given by
/// any thread. Thread-local mode: only this thread's own calls are policed, so begin and end it in
/// the same thread. Immovable.
class StreamCapture {
 public:
  StreamCapture(cudaStream_t origin, cudaStream_t forked);

  /// Throws the capture away unless end() was called: joins `forked` where that is still possible,
  /// ends the capture, drops the graph and clears this thread's last CUDA error. Says so where a
  /// stream is still capturing then.
  ~StreamCapture();
  StreamCapture(const StreamCapture&) = delete;
  StreamCapture& operator=(const StreamCapture&) = delete;
  StreamCapture(StreamCapture&&) = delete;
  StreamCapture& operator=(StreamCapture&&) = delete;

  /// The graph. `forked` must have been joined. Throws RunError where the capture has become
  /// invalid; it is over then, too.
  Graph end();

 private:
  void join_forked() const noexcept;

  cudaStream_t origin_;
  cudaStream_t forked_;
  bool running_ = false;
};

/// True if `stream` takes part in a capture, valid or not.
bool is_capturing(cudaStream_t stream);

/// Whether `stream` takes part in a valid capture; then `nodes` are those that the next work on it
/// will wait for.
bool find_last_nodes(cudaStream_t stream, std::vector<cudaGraphNode_t>& nodes);

/// Whether `node`, of a graph that is being captured, waits for just these nodes.
bool waits_for(cudaGraphNode_t node, const std::vector<cudaGraphNode_t>& nodes);

/// Makes the next work on `stream`, which takes part in a valid capture, wait for `nodes` of its
/// graph and nothing else.
void set_last_nodes(cudaStream_t stream, std::vector<cudaGraphNode_t> nodes);

}  // namespace dovetail
