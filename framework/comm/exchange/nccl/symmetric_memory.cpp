#include "framework/comm/exchange/nccl/symmetric_memory.hpp"

#include <string>

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <nccl_device.h>

#include "framework/base/check.hpp"
#include "framework/base/log.hpp"
#include "framework/comm/exchange/nccl/symmetric_peers.hpp"
#include "framework/cuda/check.hpp"

namespace dovetail {
namespace {

at::Device this_device() {
  return {at::kCUDA, c10::cuda::current_device()};
}

std::byte* allocate(std::int64_t bytes) {
  void* data = nullptr;
  const auto result = ncclMemAlloc(&data, static_cast<std::size_t>(bytes));
  if (result != ncclSuccess) {
    throw RunError("symmetric memory of " + std::to_string(bytes) +
                   " bytes: " + ncclGetErrorString(result));
  }
  return static_cast<std::byte*>(data);
}

}  // namespace

void require_symmetric_memory(NcclComm& comm, const std::string& name, const WaitPolicy& wait) {
  const auto refuse = [&](const std::string& why) {
    throw InputError("exchange '" + name + "' " + why +
                     "; allowed here: gather, ragged, padded, and auto");
  };
  const int reached = ncclTeamLsa(comm.raw()).nRanks;
  if (reached != comm.size()) {
    refuse("needs all ranks of an ep group on one host: a rank reaches the memory of " +
           std::to_string(reached) + " of " + std::to_string(comm.size()));
  }
  // The only call that says whether memory can be shared; what it makes is empty.
  ncclDevCommRequirements nothing{};
  ncclDevComm made{};
  const auto result = ncclDevCommCreate(comm.raw(), &nothing, &made);
  if (result == ncclInvalidUsage) {
    refuse("needs peer access between all GPUs of an ep group, which NCCL does not find here");
  }
  if (result != ncclSuccess && result != ncclInProgress) {
    throw RunError(std::string("looking for symmetric memory: ") + ncclGetErrorString(result));
  }
  comm.settle(wait, "looking for symmetric memory");
  if (ncclDevCommDestroy(comm.raw(), &made) != ncclSuccess) {
    log_line("an empty device communicator of NCCL could not be destroyed");
  }
}

SymmetricMemory::SymmetricMemory(NcclComm& comm, std::int64_t bytes, const WaitPolicy& wait)
    : comm_(comm), data_(allocate(bytes)) {
  try {
    check_cuda(cudaMemset(data_, 0, static_cast<std::size_t>(bytes)), "clearing symmetric memory");
    check_cuda(cudaDeviceSynchronize(), "clearing symmetric memory");
    // Ends with a barrier of all ranks: the memory of each is clear by then.
    comm.call(
        [&](ncclComm_t raw) {
          return ncclCommWindowRegister(
              raw, data_, static_cast<std::size_t>(bytes), &window_, NCCL_WIN_COLL_SYMMETRIC);
        },
        wait,
        "sharing symmetric memory of " + std::to_string(bytes) + " bytes");
    DOVETAIL_CHECK(window_ != nullptr, "NCCL has registered no window");
    peers_ = at::empty({comm.size()}, at::TensorOptions().dtype(at::kLong).device(this_device()));
    launch_read_peers(window_,
                      comm.size(),
                      static_cast<std::byte**>(peers_.mutable_data_ptr()),
                      c10::cuda::getCurrentCUDAStream().stream());
    check_cuda(cudaDeviceSynchronize(), "looking at the peers' memory");
    on_host_.resize(static_cast<std::size_t>(comm.size()));
    check_cuda(cudaMemcpy(on_host_.data(),
                          peers_.const_data_ptr(),
                          on_host_.size() * sizeof(std::byte*),
                          cudaMemcpyDeviceToHost),
               "looking at the peers' memory");
  } catch (...) {
    // A peer may have mapped it: it stays until the process ends.
    log_line("symmetric memory could not be shared");
    throw;
  }
}

SymmetricMemory::~SymmetricMemory() {
  // Where the communicator has been aborted, peers may be in the middle of it.
  if (comm_.has_failed()) {
    log_line("symmetric memory of a failed communicator is kept until the process ends");
    return;
  }
  if (ncclCommWindowDeregister(comm_.raw(), window_) != ncclSuccess ||
      ncclMemFree(data_) != ncclSuccess) {
    log_line("symmetric memory could not be given back");
  }
}

std::byte* const* SymmetricMemory::peers() const {
  return static_cast<std::byte* const*>(peers_.const_data_ptr());
}

at::Tensor SymmetricMemory::view(std::int64_t begin, std::int64_t bytes) const {
  return at::from_blob(
      data_ + begin, {bytes}, at::TensorOptions().dtype(at::kByte).device(this_device()));
}

}  // namespace dovetail
