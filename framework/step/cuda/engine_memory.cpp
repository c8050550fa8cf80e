#include "framework/step/cuda/engine_memory.hpp"

#include <algorithm>
#include <exception>
#include <map>
#include <mutex>
#include <tuple>

#include <ATen/cuda/CUDAContextLight.h>
#include <c10/cuda/CUDACachingAllocator.h>

#include "framework/base/log.hpp"
#include "framework/cuda/check.hpp"
#include "framework/step/cuda/gpu_device.hpp"

namespace dovetail {
namespace {

namespace allocator = c10::cuda::CUDACachingAllocator;

struct AllocatorState {
  AllocatorBytes now;
  AllocatorBytes peaks;
};

AllocatorState allocator_state(c10::DeviceIndex device) {
  const auto stats = allocator::getDeviceStats(device);
  const auto all = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  const auto& reserved = stats.reserved_bytes.at(all);
  const auto& allocated = stats.allocated_bytes.at(all);
  return {.now = {reserved.current, allocated.current}, .peaks = {reserved.peak, allocated.peak}};
}

AllocatorBytes operator+(AllocatorBytes a, AllocatorBytes b) {
  return {a.reserved + b.reserved, a.allocated + b.allocated};
}

AllocatorBytes operator-(AllocatorBytes a, AllocatorBytes b) {
  return {a.reserved - b.reserved, a.allocated - b.allocated};
}

struct DeviceBytes {
  std::int64_t free = 0;
  std::int64_t total = 0;
};

DeviceBytes device_bytes() {
  std::size_t free = 0;
  std::size_t total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "free memory of a GPU");
  return {static_cast<std::int64_t>(free), static_cast<std::int64_t>(total)};
}

/// Those of all threads' handles, which make new ones when they are next used on the stream.
void drop_blas_workspaces(cudaStream_t stream) {
  for (auto* workspaces : {&at::cuda::cublas_handle_stream_to_workspace(),
                           &at::cuda::cublaslt_handle_stream_to_workspace()}) {
    const std::lock_guard lock(workspaces->mutex);
    std::erase_if(workspaces->map,
                  [&](const auto& entry) { return std::get<1>(entry.first) == stream; });
  }
}

}  // namespace

EngineMemory::EngineMemory(GpuDevice& gpu, c10::DeviceIndex device)
    : gpu_(gpu), ledger_(gpu.engines()), device_(device) {
  if (ledger_.num_alive == 0) {
    gpu_.wait("before workspaces are given back");
    at::cuda::clearCublasWorkspaces();
  }
  begin_turn();
  ++ledger_.num_alive;
}

EngineMemory::~EngineMemory() {
  --ledger_.num_alive;
  ledger_.held = ledger_.held - held_;
  try {
    for (auto* stream : streams_) {
      ledger_.streams.erase(ledger_.streams.find(stream));
      if (!ledger_.streams.contains(stream)) {
        drop_blas_workspaces(stream);
      }
    }
  } catch (const std::exception& error) {
    log_line(std::string("workspaces of an engine could not be given back: ") + error.what());
  }
}

void EngineMemory::own_workspaces(const std::vector<cudaStream_t>& streams) {
  for (auto* stream : streams) {
    streams_.push_back(stream);
    ledger_.streams.insert(stream);
  }
}

void EngineMemory::begin_turn() {
  give_back();
  others_ = ledger_.held - held_;
  began_ = allocator_state(device_).now;
  began_free_ = device_bytes().free;
}

void EngineMemory::end_filling(std::int64_t exchange_bytes) {
  const auto peak = allocator_state(device_).peaks.reserved;
  give_back();
  const auto taken = peak - allocator_state(device_).now.reserved + exchange_bytes;
  filling_bytes_ = std::max(filling_bytes_, taken);
}

TurnMemory EngineMemory::end_turn() {
  peaks_ = peaks();
  const auto peak = allocator_state(device_).peaks.reserved;
  give_back();
  const auto now = allocator_state(device_).now;
  const auto grown = now - began_;
  held_ = held_ + grown;
  ledger_.held = ledger_.held + grown;
  const auto device = device_bytes();
  held_bytes_ = std::max<std::int64_t>(0, held_bytes_ + began_free_ - device.free);
  return {.total = device.total,
          .free = device.free,
          .held = held_bytes_,
          .passing = peak - now.reserved,
          .filling = filling_bytes_};
}

AllocatorBytes EngineMemory::peaks() const {
  const auto own = allocator_state(device_).peaks - others_;
  return {std::max(peaks_.reserved, own.reserved), std::max(peaks_.allocated, own.allocated)};
}

void EngineMemory::give_back() const {
  gpu_.wait("before memory is given back");
  allocator::emptyCache();
  allocator::resetPeakStats(device_);
}

}  // namespace dovetail
