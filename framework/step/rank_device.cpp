#include "framework/step/rank_device.hpp"

#include "framework/base/check.hpp"
#include "framework/cuda/devices.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/step/cuda/gpu_device.hpp"

namespace dovetail {

RankDevice::RankDevice(const Ranks& ranks, const DevicePlacement& placement) {
  DOVETAIL_CHECK(placement.kind != DeviceKind::automatic, "a device that is not chosen");
  run_on_all_ranks(ranks.groups.world, ranks.wait, [&] {
    if (placement.kind == DeviceKind::cuda) {
      gpu_ = make_gpu_device(ranks, placement.ordinal);
      device_ = at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(placement.ordinal));
      description_ = device_.str() + " " +
                     visible_gpus().at(static_cast<std::size_t>(placement.ordinal)).description;
    }
  });
}

RankDevice::~RankDevice() = default;

GpuDevice& RankDevice::gpu() const {
  DOVETAIL_CHECK(gpu_ != nullptr, "this rank runs on the CPU");
  return *gpu_;
}

std::function<void(at::Tensor&)> RankDevice::broadcast_over_replicas() {
  return gpu_ ? gpu_->broadcast_over_replicas() : std::function<void(at::Tensor&)>();
}

}  // namespace dovetail
