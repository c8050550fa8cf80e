// The hard form of an SM partition: two streams whose kernels never run on the same SM.
#pragma once

#include <utility>

#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "framework/cuda/sm_split.hpp"

namespace dovetail {

/// The current device, cut by one split into a group of SMs for the exchange and the remainder for
/// compute (green contexts of the driver), with a stream on each: comm with the highest priority,
/// compute with the default one. What is launched on a stream, eagerly or in a graph that was
/// captured from it, keeps to its SMs. L2, memory and links stay shared, and work that runs while
/// the other part is idle does not get more.
///
/// Green contexts are never made current: a stream is all that a caller needs. But a wait for the
/// device (cudaDeviceSynchronize) does not wait for these streams, seen on an H200: wait for them.
/// Move-only; moved-from objects may only be destroyed or assigned to. Dies behind all work on its
/// streams and all graphs captured from them.
class GreenPartition {
 public:
  /// Throws InputError for what split_sms refuses and where the driver cannot cut a device;
  /// RunError for the driver's errors.
  explicit GreenPartition(int comm_sms);
  ~GreenPartition();
  GreenPartition(const GreenPartition&) = delete;
  GreenPartition& operator=(const GreenPartition&) = delete;

  GreenPartition(GreenPartition&& other) noexcept { swap(other); }

  GreenPartition& operator=(GreenPartition&& other) noexcept {
    swap(other);
    return *this;
  }

  /// As the driver has cut it.
  const SmSplit& sms() const { return sms_; }

  /// Waits for all work on both streams. Throws RunError with the device's error.
  void wait(const char* what) const;

  /// For stream guards. LibTorch's allocator takes them as any stream.
  c10::cuda::CUDAStream compute_stream() const;
  c10::cuda::CUDAStream comm_stream() const;

 private:
  /// A green context and its stream; null = none. Types of the driver as what they point to.
  struct Part {
    void* context = nullptr;
    cudaStream_t stream = nullptr;
  };

  void swap(GreenPartition& other) noexcept {
    std::swap(sms_, other.sms_);
    std::swap(device_, other.device_);
    std::swap(comm_, other.comm_);
    std::swap(compute_, other.compute_);
  }

  static void destroy(Part& part) noexcept;

  SmSplit sms_;
  c10::DeviceIndex device_ = 0;
  Part comm_;
  Part compute_;
};

}  // namespace dovetail
