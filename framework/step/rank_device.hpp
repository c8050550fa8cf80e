// The device that a rank runs on, and what all policies share there: on a GPU the NCCL
// communicators.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "framework/step/rank_context.hpp"

namespace dovetail {

/// What only a GPU has: framework/step/cuda/gpu_device.hpp.
class GpuDevice;

/// One a rank and run; outlives the policies' drivers.
class RankDevice {
 public:
  /// Resolves `execution.device`: auto is a GPU where every rank of its host can have one of its
  /// own, and no policy asks for what only CPU ranks can do. Collective over the world. Throws
  /// AgreedError where a GPU is asked for and there are too few, or this build knows none, naming
  /// the ranks.
  explicit RankDevice(const RankContext& context);
  ~RankDevice();
  RankDevice(const RankDevice&) = delete;
  RankDevice& operator=(const RankDevice&) = delete;
  RankDevice(RankDevice&&) = delete;
  RankDevice& operator=(RankDevice&&) = delete;

  at::Device device() const { return device_; }

  bool is_gpu() const { return gpu_ != nullptr; }

  /// "cpu", or "cuda:0 NVIDIA H200".
  const std::string& description() const { return description_; }

  /// Throws ContractError on the CPU.
  GpuDevice& gpu() const;

  /// Makes a tensor on the device of dp rank 0 that of all replicas; collective over the dp group.
  /// Empty on the CPU.
  std::function<void(at::Tensor&)> broadcast_over_replicas();

 private:
  at::Device device_ = at::kCPU;
  std::string description_ = "cpu";
  std::unique_ptr<GpuDevice> gpu_;
};

}  // namespace dovetail
