#include "models/weights/cuda/staged_upload.hpp"

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "framework/base/check.hpp"
#include "framework/step/cuda/stream_wait.hpp"

namespace dovetail {
namespace {

constexpr const char* kWhat = "copy of weights to the GPU";

}  // namespace

StagedUpload::StagedUpload(std::int64_t piece_bytes) {
  for (Buffer& buffer : buffers_) {
    buffer.bytes =
        at::empty({piece_bytes}, at::TensorOptions().dtype(at::kByte).pinned_memory(true));
  }
}

void StagedUpload::write(const at::Tensor& destination,
                         const std::function<void(std::byte*)>& fill) {
  Buffer& buffer = buffers_[next_];
  next_ = (next_ + 1) % buffers_.size();
  const auto bytes = static_cast<std::int64_t>(destination.nbytes());
  DOVETAIL_CHECK(destination.is_cuda() && destination.is_contiguous(),
                 "pieces of weights go to contiguous GPU memory");
  DOVETAIL_CHECK(bytes <= buffer.bytes.numel(), "the piece is larger than the buffer");
  wait_for_event(buffer.copied, {}, kWhat);
  fill(static_cast<std::byte*>(buffer.bytes.data_ptr()));
  const c10::cuda::CUDAGuard guard(destination.device());
  destination.copy_(
      buffer.bytes.narrow(0, 0, bytes).view(destination.scalar_type()).view(destination.sizes()),
      /*non_blocking=*/true);
  buffer.copied.record(c10::cuda::getCurrentCUDAStream(destination.device().index()));
}

void StagedUpload::finish() {
  for (const Buffer& buffer : buffers_) {
    wait_for_event(buffer.copied, {}, kWhat);
  }
}

}  // namespace dovetail
