// A rank's GPU, its NCCL communicators, and the driver of its steps. The interface needs no CUDA,
// so that a build without it has the same callers.
#pragma once

#include <functional>
#include <memory>

#include <ATen/core/Tensor.h>

#include "framework/mpi/ranks.hpp"
#include "framework/step/step_driver.hpp"

namespace dovetail {

class GreenPartition;
class NcclComm;

class GpuDevice {
 public:
  GpuDevice() = default;
  virtual ~GpuDevice() = default;
  GpuDevice(const GpuDevice&) = delete;
  GpuDevice& operator=(const GpuDevice&) = delete;
  GpuDevice(GpuDevice&&) = delete;
  GpuDevice& operator=(GpuDevice&&) = delete;

  /// The ep group's communicator whose collectives take at most `comm_sms` SMs, with kAllSms as
  /// many as NCCL chooses; null for a group of one rank. Made at the first call for that number,
  /// kept until the end. Collective over the world.
  virtual NcclComm* ep_comm(int comm_sms) = 0;

  /// The GPU, cut into `comm_sms` SMs for the exchange and the others. Made at the first call for
  /// that number, kept until the end. Local. Throws as GreenPartition's constructor.
  virtual const GreenPartition& partition(int comm_sms) = 0;

  /// Waits for all that this process has enqueued: a wait for the device alone would leave out the
  /// streams of partitions. `what` is for the message. Throws RunError with the device's error.
  virtual void wait(const char* what) const = 0;

  /// See RankDevice.
  virtual std::function<void(at::Tensor&)> broadcast_over_replicas() = 0;

  /// See make_step_driver.
  virtual std::unique_ptr<StepDriver> make_driver(const StepSetup& setup) = 0;
};

/// Binds this process to one of the GPUs that it sees. Local. `ranks` outlives it. Throws
/// InputError in a build without CUDA.
std::unique_ptr<GpuDevice> make_gpu_device(const Ranks& ranks, int ordinal);

}  // namespace dovetail
