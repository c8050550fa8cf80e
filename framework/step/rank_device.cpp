#include "framework/step/rank_device.hpp"

#include <algorithm>
#include <array>

#include "framework/base/check.hpp"
#include "framework/cuda/devices.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/step/cuda/gpu_device.hpp"

namespace dovetail {
namespace {

/// Whether every rank can have a GPU of its own.
bool all_have_gpus(const RankContext& context) {
  const auto found = static_cast<int>(gpu_descriptions().size());
  std::array<std::int64_t, 1> enough = {found >= context.session.local_size() ? 1 : 0};
  all_reduce(context.groups.world, enough, Reduction::min, context.wait);
  return enough[0] == 1;
}

/// What only CPU ranks can do: emulate a link, compute in float16.
bool needs_cpu(const Experiment& experiment) {
  return std::any_of(
      experiment.policies.begin(), experiment.policies.end(), [](const PolicyConfig& policy) {
        return policy.execution.link.has_value() || policy.execution.dtype == DType::float16;
      });
}

DeviceKind resolve(const RankContext& context) {
  const auto wanted = context.experiment.execution.device;
  if (wanted == DeviceKind::cpu ||
      (wanted == DeviceKind::automatic && needs_cpu(context.experiment))) {
    return DeviceKind::cpu;
  }
  const bool are_there = all_have_gpus(context);
  run_on_all_ranks(context.groups.world, context.wait, [&] {
    if (wanted == DeviceKind::cuda && !are_there) {
      throw InputError("execution.device: cuda needs one GPU a rank; host " +
                       context.session.host() + " has " +
                       std::to_string(gpu_descriptions().size()) + " for " +
                       std::to_string(context.session.local_size()) +
                       " ranks; allowed: fewer ranks on a host, or device: cpu");
    }
  });
  return are_there ? DeviceKind::cuda : DeviceKind::cpu;
}

}  // namespace

RankDevice::RankDevice(const RankContext& context) {
  const auto kind = resolve(context);
  run_on_all_ranks(context.groups.world, context.wait, [&] {
    if (kind == DeviceKind::cuda) {
      gpu_ = make_gpu_device(context);
      device_ = at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(context.session.local_rank()));
      description_ = device_.str() + " " +
                     gpu_descriptions().at(static_cast<std::size_t>(context.session.local_rank()));
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
