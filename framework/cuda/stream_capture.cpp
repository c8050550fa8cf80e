#include "framework/cuda/stream_capture.hpp"

#include <algorithm>
#include <cstddef>

#include "framework/base/log.hpp"
#include "framework/cuda/check.hpp"

namespace dovetail {
namespace {

cudaStreamCaptureStatus capture_status(cudaStream_t stream) {
  auto status = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(stream, &status), "look for a capture");
  return status;
}

}  // namespace

bool is_capturing(cudaStream_t stream) {
  return capture_status(stream) != cudaStreamCaptureStatusNone;
}

bool find_last_nodes(cudaStream_t stream, std::vector<cudaGraphNode_t>& nodes) {
  auto status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
  cudaGraph_t graph = nullptr;
  const cudaGraphNode_t* last = nullptr;
  const cudaGraphEdgeData* edges = nullptr;
  std::size_t count = 0;
  check_cuda(cudaStreamGetCaptureInfo(stream, &status, &id, &graph, &last, &edges, &count),
             "look at a capture");
  if (status != cudaStreamCaptureStatusActive) {
    return false;
  }
  nodes.assign(last, last + count);
  return true;
}

bool waits_for(cudaGraphNode_t node, const std::vector<cudaGraphNode_t>& nodes) {
  std::size_t count = 0;
  check_cuda(cudaGraphNodeGetDependencies(node, nullptr, nullptr, &count),
             "count what a node waits for");
  if (count != nodes.size()) {
    return false;
  }
  std::vector<cudaGraphNode_t> found(count);
  std::vector<cudaGraphEdgeData> edges(count);
  check_cuda(cudaGraphNodeGetDependencies(node, found.data(), edges.data(), &count),
             "ask what a node waits for");
  return std::is_permutation(found.begin(), found.end(), nodes.begin());
}

void set_last_nodes(cudaStream_t stream, std::vector<cudaGraphNode_t> nodes) {
  check_cuda(cudaStreamUpdateCaptureDependencies(
                 stream, nodes.data(), nullptr, nodes.size(), cudaStreamSetCaptureDependencies),
             "change what a capture waits for");
}

StreamCapture::StreamCapture(cudaStream_t origin, cudaStream_t forked)
    : origin_(origin), forked_(forked) {
  check_cuda(cudaStreamBeginCapture(origin, cudaStreamCaptureModeThreadLocal), "begin a capture");
  running_ = true;
}

void StreamCapture::join_forked() const noexcept {
  auto status = cudaStreamCaptureStatusNone;
  if (cudaStreamIsCapturing(forked_, &status) != cudaSuccess ||
      status != cudaStreamCaptureStatusActive) {
    return;
  }
  cudaEvent_t event = nullptr;
  if (cudaEventCreateWithFlags(&event, cudaEventDisableTiming) != cudaSuccess) {
    return;
  }
  if (cudaEventRecord(event, forked_) == cudaSuccess) {
    static_cast<void>(cudaStreamWaitEvent(origin_, event, 0));
  }
  static_cast<void>(cudaEventDestroy(event));
}

StreamCapture::~StreamCapture() {
  if (!running_) {
    return;
  }
  join_forked();
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(origin_, &graph) == cudaSuccess) {
    const Graph dropped(graph);
  }
  static_cast<void>(cudaGetLastError());
  try {
    if (is_capturing(origin_) || is_capturing(forked_)) {
      log_line("a stream is still capturing after its capture was thrown away");
    }
  } catch (const Error& error) {
    log_line(error.what());
  }
}

Graph StreamCapture::end() {
  running_ = false;
  cudaGraph_t graph = nullptr;
  const cudaError_t status = cudaStreamEndCapture(origin_, &graph);
  Graph owner(graph);
  if (status != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
  }
  check_cuda(status, "end a capture");
  return owner;
}

}  // namespace dovetail
