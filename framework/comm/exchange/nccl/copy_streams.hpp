// Copies to several peers at once, by the copy engines.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include <c10/cuda/CUDAStream.h>

#include "framework/cuda/event.hpp"

namespace dovetail {

/// A stream for each peer but the first, which takes the caller's. On the current device.
class CopyStreams {
 public:
  explicit CopyStreams(int num_peers);

  /// Enqueues copy(i, stream) for each peer i from 0, side by side behind what `stream` has now;
  /// `stream` goes on behind all of them. May be captured.
  void enqueue(cudaStream_t stream, const std::function<void(int, cudaStream_t)>& copy) const;

 private:
  std::vector<c10::cuda::CUDAStream> streams_;
  std::vector<Event> joined_;
  Event forked_;
};

}  // namespace dovetail
