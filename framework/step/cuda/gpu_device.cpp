#include "framework/step/cuda/gpu_device.hpp"

#include <map>
#include <optional>

#include <c10/cuda/CUDAFunctions.h>

#include "framework/comm/nccl/nccl_comm.hpp"
#include "framework/config/comm_sms.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/gpu_arithmetic.hpp"
#include "framework/cuda/green_partition.hpp"
#include "framework/step/cuda/cuda_driver.hpp"

namespace dovetail {
namespace {

class NcclGpuDevice final : public GpuDevice {
 public:
  NcclGpuDevice(const Ranks& ranks, int ordinal) : ranks_(ranks) {
    c10::cuda::set_device(static_cast<c10::DeviceIndex>(ordinal));
    set_gpu_arithmetic();
  }

  NcclComm* ep_comm(int comm_sms) override {
    if (ranks_.grid.expert_parallel == 1) {
      return nullptr;
    }
    auto found = ep_comms_.find(comm_sms);
    if (found == ep_comms_.end()) {
      found =
          ep_comms_
              .try_emplace(comm_sms,
                           ranks_.groups.ep,
                           NcclOptions{.max_ctas = comm_sms == kAllSms ? std::nullopt
                                                                       : std::optional(comm_sms),
                                       .name = "ep, " + describe_comm_sms(comm_sms) + " SMs"},
                           ranks_.wait)
              .first;
    }
    return &found->second;
  }

  const GreenPartition& partition(int comm_sms) override {
    return partitions_.try_emplace(comm_sms, comm_sms).first->second;
  }

  void wait(const char* what) const override {
    check_cuda(cudaDeviceSynchronize(), what);
    for (const auto& [comm_sms, partition] : partitions_) {
      partition.wait(what);
    }
  }

  std::function<void(at::Tensor&)> broadcast_over_replicas() override {
    if (ranks_.grid.num_replicas() == 1) {
      return {};
    }
    return [this](at::Tensor& tensor) {
      if (!dp_comm_) {
        dp_comm_.emplace(ranks_.groups.dp, NcclOptions{.name = "dp"}, ranks_.wait);
      }
      dp_comm_->broadcast(tensor, 0, patient(ranks_.wait));
    };
  }

  std::unique_ptr<StepDriver> make_driver(const StepSetup& setup) override {
    return std::make_unique<CudaDriver>(setup);
  }

 private:
  const Ranks& ranks_;
  std::map<int, NcclComm> ep_comms_;  ///< by comm_sms, kAllSms included
  std::optional<NcclComm> dp_comm_;
  std::map<int, GreenPartition> partitions_;  ///< by comm_sms
};

}  // namespace

std::unique_ptr<GpuDevice> make_gpu_device(const Ranks& ranks, int ordinal) {
  return std::make_unique<NcclGpuDevice>(ranks, ordinal);
}

}  // namespace dovetail
