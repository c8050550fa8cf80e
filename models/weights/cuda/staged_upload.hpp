// Host data written to GPU memory piece by piece, the next one made while the last one is copied.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAEvent.h>

namespace dovetail {

/// Two pinned host buffers. For one thread, one GPU; copies are enqueued on its current stream.
class StagedUpload {
 public:
  explicit StagedUpload(std::int64_t piece_bytes);

  /// Calls `fill` with a buffer for all elements of `destination` (contiguous, on the GPU, at most
  /// piece_bytes), then enqueues the copy. Waits for the buffer, a minute at most (TimeoutError).
  void write(const at::Tensor& destination, const std::function<void(std::byte*)>& fill);

  /// Waits for all copies, a minute at most.
  void finish();

 private:
  struct Buffer {
    at::Tensor bytes;  // pinned; torch keeps it while a copy reads it
    c10::cuda::CUDAEvent copied;
  };

  std::array<Buffer, 2> buffers_;
  std::size_t next_ = 0;
};

}  // namespace dovetail
