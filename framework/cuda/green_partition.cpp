#include "framework/cuda/green_partition.hpp"

#include <string>

#include <cudaTypedefs.h>

#include "framework/base/error.hpp"
#include "framework/base/log.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/driver_function.hpp"

namespace dovetail {
namespace {

/// What the driver offers for green contexts, CUDA 12.5 and later.
struct Driver {
  PFN_cuDeviceGetDevResource_v12040 device_resource =
      driver_function<PFN_cuDeviceGetDevResource_v12040>("cuDeviceGetDevResource", 12040);
  PFN_cuDevSmResourceSplitByCount_v12040 split =
      driver_function<PFN_cuDevSmResourceSplitByCount_v12040>("cuDevSmResourceSplitByCount", 12040);
  PFN_cuDevResourceGenerateDesc_v12040 describe =
      driver_function<PFN_cuDevResourceGenerateDesc_v12040>("cuDevResourceGenerateDesc", 12040);
  PFN_cuGreenCtxCreate_v12040 create =
      driver_function<PFN_cuGreenCtxCreate_v12040>("cuGreenCtxCreate", 12040);
  PFN_cuGreenCtxDestroy_v12040 destroy =
      driver_function<PFN_cuGreenCtxDestroy_v12040>("cuGreenCtxDestroy", 12040);
  PFN_cuGreenCtxStreamCreate_v12050 make_stream =
      driver_function<PFN_cuGreenCtxStreamCreate_v12050>("cuGreenCtxStreamCreate", 12050);
  PFN_cuGetErrorString_v6000 error_text =
      driver_function<PFN_cuGetErrorString_v6000>("cuGetErrorString", 6000);

  bool is_whole() const {
    return device_resource != nullptr && split != nullptr && describe != nullptr &&
           create != nullptr && destroy != nullptr && make_stream != nullptr &&
           error_text != nullptr;
  }

  void check(CUresult status, const char* what) const {
    if (status != CUDA_SUCCESS) {
      const char* text = nullptr;
      error_text(status, &text);
      throw RunError(std::string(what) + ": " + (text != nullptr ? text : "unknown error"));
    }
  }
};

const Driver& driver() {
  static const Driver functions;
  return functions;
}

struct SmResources {
  CUdevResource comm{};
  CUdevResource compute{};
};

/// One split: a second one of the same device could hand out the same SMs again.
SmResources split_device(int comm_sms, CUdevice device) {
  CUdevResource whole{};
  driver().check(driver().device_resource(device, &whole, CU_DEV_RESOURCE_TYPE_SM),
                 "SMs of a device");
  const SmSplit wanted = split_sms(comm_sms,
                                   static_cast<int>(whole.sm.smCount),
                                   static_cast<int>(whole.sm.minSmPartitionSize),
                                   static_cast<int>(whole.sm.smCoscheduledAlignment));
  SmResources made;
  unsigned int num_groups = 1;
  driver().check(driver().split(&made.comm,
                                &num_groups,
                                &whole,
                                &made.compute,
                                /*useFlags=*/0,
                                static_cast<unsigned int>(wanted.comm_sms)),
                 "split of a device's SMs");
  if (num_groups != 1) {
    throw RunError("split of a device's SMs: " + std::to_string(num_groups) +
                   " groups in place of 1");
  }
  return made;
}

}  // namespace

GreenPartition::GreenPartition(int comm_sms) {
  if (!driver().is_whole()) {
    throw InputError(
        "the driver of this machine cannot cut the SMs of a GPU (green contexts need one for CUDA "
        "12.5)");
  }
  int device = 0;
  check_cuda(cudaGetDevice(&device), "current device");
  device_ = static_cast<c10::DeviceIndex>(device);
  check_cuda(cudaSetDevice(device), "context of a device");  // it must be there ahead of green ones
  SmResources resources = split_device(comm_sms, device);
  sms_ = {.comm_sms = static_cast<int>(resources.comm.sm.smCount),
          .compute_sms = static_cast<int>(resources.compute.sm.smCount)};
  int lowest = 0;
  int highest = 0;
  check_cuda(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "priorities of streams");
  const auto make = [&](CUdevResource& resource, int priority, Part& part) {
    CUdevResourceDesc description = nullptr;
    driver().check(driver().describe(&description, &resource, 1), "description of SMs");
    CUgreenCtx context = nullptr;
    driver().check(driver().create(&context, description, device, CU_GREEN_CTX_DEFAULT_STREAM),
                   "context of a part of a device");
    part.context = context;
    driver().check(driver().make_stream(&part.stream, context, CU_STREAM_NON_BLOCKING, priority),
                   "stream of a part of a device");
  };
  try {
    make(resources.comm, highest, comm_);
    make(resources.compute, lowest, compute_);
  } catch (...) {
    destroy(comm_);
    destroy(compute_);
    throw;
  }
}

GreenPartition::~GreenPartition() {
  destroy(comm_);
  destroy(compute_);
}

void GreenPartition::destroy(Part& part) noexcept {
  if (part.stream != nullptr && cudaStreamDestroy(part.stream) != cudaSuccess) {
    log_line("a stream of a part of a device could not be destroyed");
  }
  if (part.context != nullptr &&
      driver().destroy(static_cast<CUgreenCtx>(part.context)) != CUDA_SUCCESS) {
    log_line("the context of a part of a device could not be destroyed");
  }
  part = {};
}

void GreenPartition::wait(const char* what) const {
  check_cuda(cudaStreamSynchronize(compute_.stream), what);
  check_cuda(cudaStreamSynchronize(comm_.stream), what);
}

c10::cuda::CUDAStream GreenPartition::compute_stream() const {
  return c10::cuda::getStreamFromExternal(compute_.stream, device_);
}

c10::cuda::CUDAStream GreenPartition::comm_stream() const {
  return c10::cuda::getStreamFromExternal(comm_.stream, device_);
}

}  // namespace dovetail
