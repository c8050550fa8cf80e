#include "framework/step/cuda/gpu_device.hpp"

#include <map>
#include <optional>

#include <ATen/Context.h>
#include <c10/cuda/CUDAFunctions.h>

#include "framework/comm/nccl/nccl_comm.hpp"
#include "framework/cuda/quiet_torch.hpp"

namespace dovetail {
namespace {

/// Settings of the whole process. Float32 is the checking path, so it stays float32. The SM count
/// that the GEMMs may use is honoured by cuBLASLt only. Flash attention is pinned, because the
/// others choose plans when they are first used.
void set_arithmetic() {
  const QuietTorch quiet;
  auto& torch = at::globalContext();
  torch.setAllowTF32CuBLAS(false);
  torch.setAllowTF32CuDNN(false);
  torch.setBlasPreferredBackend(at::BlasBackend::Cublaslt);
  torch.setSDPUseCuDNN(false);
  torch.setSDPUseMemEfficient(false);
}

class NcclGpuDevice final : public GpuDevice {
 public:
  explicit NcclGpuDevice(const RankContext& context) : context_(context) {
    c10::cuda::set_device(static_cast<c10::DeviceIndex>(context.session.local_rank()));
    set_arithmetic();
  }

  NcclComm* ep_comm(int comm_sms) override {
    if (context_.grid.expert_parallel == 1) {
      return nullptr;
    }
    auto found = ep_comms_.find(comm_sms);
    if (found == ep_comms_.end()) {
      found = ep_comms_
                  .try_emplace(comm_sms,
                               context_.groups.ep,
                               NcclOptions{.max_ctas = comm_sms,
                                           .name = "ep, " + std::to_string(comm_sms) + " SMs"},
                               context_.wait)
                  .first;
    }
    return &found->second;
  }

  std::function<void(at::Tensor&)> broadcast_over_replicas() override {
    if (context_.grid.num_replicas() == 1) {
      return {};
    }
    return [this](at::Tensor& tensor) {
      if (!dp_comm_) {
        dp_comm_.emplace(context_.groups.dp, NcclOptions{.name = "dp"}, context_.wait);
      }
      dp_comm_->broadcast(tensor, 0, patient(context_.wait));
    };
  }

 private:
  const RankContext& context_;
  std::map<int, NcclComm> ep_comms_;  ///< by comm_sms
  std::optional<NcclComm> dp_comm_;
};

}  // namespace

std::unique_ptr<GpuDevice> make_gpu_device(const RankContext& context) {
  return std::make_unique<NcclGpuDevice>(context);
}

}  // namespace dovetail
