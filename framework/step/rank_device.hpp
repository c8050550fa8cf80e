// The device that a rank runs on, and what all policies share there: on a GPU the NCCL
// communicators.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "framework/base/types.hpp"
#include "framework/mpi/ranks.hpp"

namespace dovetail {

/// What only a GPU has: framework/step/cuda/gpu_device.hpp.
class GpuDevice;

/// Where a rank runs; framework/run/choose_device.hpp chooses it together with the other ranks.
struct DevicePlacement {
  DeviceKind kind = DeviceKind::cpu;  ///< cpu or cuda; equal on all ranks
  int ordinal = 0;                    ///< of the rank's GPU among those that it sees
  std::string name = "cpu";           ///< of rank 0's device; GPUs are taken to be alike
  std::string gpus_apart;  ///< why those of an ep group cannot share memory; empty = they can
};

/// One a rank and run; outlives the policies' drivers.
class RankDevice {
 public:
  /// Binds the process to its GPU. `ranks` outlives it. Collective over the world. Throws
  /// AgreedError where this build knows no GPUs.
  RankDevice(const Ranks& ranks, const DevicePlacement& placement);
  ~RankDevice();
  RankDevice(const RankDevice&) = delete;
  RankDevice& operator=(const RankDevice&) = delete;
  RankDevice(RankDevice&&) = delete;
  RankDevice& operator=(RankDevice&&) = delete;

  at::Device device() const { return device_; }

  bool is_gpu() const { return gpu_ != nullptr; }

  /// "cpu", or "cuda:0 NVIDIA H200, ...".
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
