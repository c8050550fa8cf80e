// A rank's GPU and its NCCL communicators. The interface needs no CUDA, so that a build without it
// has the same callers.
#pragma once

#include <functional>
#include <memory>

#include <ATen/core/Tensor.h>

#include "framework/step/rank_context.hpp"

namespace dovetail {

class NcclComm;

class GpuDevice {
 public:
  GpuDevice() = default;
  virtual ~GpuDevice() = default;
  GpuDevice(const GpuDevice&) = delete;
  GpuDevice& operator=(const GpuDevice&) = delete;
  GpuDevice(GpuDevice&&) = delete;
  GpuDevice& operator=(GpuDevice&&) = delete;

  /// The ep group's communicator whose collectives take at most `comm_sms` SMs; null for a group
  /// of one rank. Made at the first call for that number, kept until the end. Collective over the
  /// world.
  virtual NcclComm* ep_comm(int comm_sms) = 0;

  /// See RankDevice.
  virtual std::function<void(at::Tensor&)> broadcast_over_replicas() = 0;
};

/// Binds this process to the GPU of its local rank. Local. `context` outlives it. Throws InputError
/// in a build without CUDA.
std::unique_ptr<GpuDevice> make_gpu_device(const RankContext& context);

}  // namespace dovetail
