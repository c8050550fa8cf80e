#include "framework/cuda/graph_pool.hpp"

#include <exception>

#include <ATen/Context.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>

#include "framework/base/log.hpp"

namespace dovetail {
namespace {

namespace allocator = c10::cuda::CUDACachingAllocator;

/// The allocator's tables exist only once CUDA has been set up.
c10::MempoolId_t make_pool(c10::DeviceIndex device) {
  at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
  const auto id = at::cuda::graph_pool_handle();
  allocator::createOrIncrefPool(device, id);
  return id;
}

}  // namespace

GraphPool::GraphPool(c10::DeviceIndex device) : device_(device), id_(make_pool(device)) {}

GraphPool::~GraphPool() {
  try {
    allocator::releasePool(device_, id_);
  } catch (const std::exception& error) {
    log_line(error.what());
  }
}

GraphMemory::GraphMemory(const GraphPool& pool, cudaStream_t first, cudaStream_t second)
    : device_(pool.device()), id_(pool.id()) {
  allocator::beginAllocateToPool(device_, id_, [first, second](cudaStream_t stream) {
    return stream == first || stream == second;
  });
  taking_ = true;
  held_ = true;
}

GraphMemory::~GraphMemory() {
  try {
    stop_taking();
    if (held_) {
      allocator::releasePool(device_, id_);
    }
  } catch (const std::exception& error) {
    log_line(error.what());
  }
}

GraphMemory& GraphMemory::operator=(GraphMemory&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(id_, other.id_);
  std::swap(taking_, other.taking_);
  std::swap(held_, other.held_);
  return *this;
}

void GraphMemory::stop_taking() {
  if (std::exchange(taking_, false)) {
    allocator::endAllocateToPool(device_, id_);
  }
}

}  // namespace dovetail
