// The memory pool that the graphs of one runner share, by LibTorch's caching allocator.
#pragma once

#include <utility>

#include <c10/core/Allocator.h>
#include <c10/cuda/CUDAStream.h>

namespace dovetail {

/// A private pool of the caching allocator that lives as long as this object and every GraphMemory
/// taken from it. Graphs that share a pool must not run at the same time. Immovable.
class GraphPool {
 public:
  explicit GraphPool(c10::DeviceIndex device);
  ~GraphPool();
  GraphPool(const GraphPool&) = delete;
  GraphPool& operator=(const GraphPool&) = delete;
  GraphPool(GraphPool&&) = delete;
  GraphPool& operator=(GraphPool&&) = delete;

  c10::DeviceIndex device() const { return device_; }

  c10::MempoolId_t id() const { return id_; }

 private:
  c10::DeviceIndex device_;
  c10::MempoolId_t id_;
};

/// A graph's hold on the pool: what was allocated for it keeps its address until this dies, which
/// must be after the graph. One may take allocations at a time. Move-only.
class GraphMemory {
 public:
  GraphMemory() = default;

  /// From now on, allocations for the two streams, by any thread, come from the pool.
  GraphMemory(const GraphPool& pool, cudaStream_t first, cudaStream_t second);
  ~GraphMemory();

  GraphMemory(GraphMemory&& other) noexcept
      : device_(other.device_),
        id_(other.id_),
        taking_(std::exchange(other.taking_, false)),
        held_(std::exchange(other.held_, false)) {}

  GraphMemory& operator=(GraphMemory&& other) noexcept;
  GraphMemory(const GraphMemory&) = delete;
  GraphMemory& operator=(const GraphMemory&) = delete;

  /// Allocations come from where they came from before.
  void stop_taking();

 private:
  c10::DeviceIndex device_ = -1;
  c10::MempoolId_t id_{0, 0};
  bool taking_ = false;
  bool held_ = false;
};

}  // namespace dovetail
