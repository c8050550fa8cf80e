// What an engine holds of a GPU's memory, where others may be alive beside it.
#pragma once

#include <cstdint>
#include <set>
#include <vector>

#include <c10/core/Device.h>
#include <cuda_runtime_api.h>

#include "framework/step/turn_memory.hpp"

namespace dovetail {

class GpuDevice;

/// Bytes of LibTorch's allocator.
struct AllocatorBytes {
  std::int64_t reserved = 0;   ///< of the device
  std::int64_t allocated = 0;  ///< of these by tensors
};

/// Of the engines that are alive on a GPU; EngineMemory keeps it.
struct EngineLedger {
  int num_alive = 0;
  AllocatorBytes held;  ///< behind the last turn of each
  /// Of their lanes: LibTorch hands out 32 streams of a priority in turn, so that two of many
  /// engines may have the same one. One engine runs at a time and waits for the end of each step,
  /// so that is right for order, and for a workspace that both use.
  std::multiset<cudaStream_t> streams;
};

/// An engine's part. It is made before all else of the engine and dies after it. Main thread.
///
/// Graphs refer to memory that must not go while they are alive: what their capture has allocated
/// is in the engine's private pool, and buffers, batches and caches have owners. But LibTorch owns
/// the workspaces of cuBLAS, by handle and stream, which graphs have from the eager runs before the
/// capture. So these are given back stream by stream where an engine dies, and all of them, those
/// of the partitions' streams and of other owners' among them, only where none is alive. To empty
/// the allocator's cache takes nothing from a graph: private pools stay as long as their owners.
class EngineMemory {
 public:
  /// Begins the engine's first turn. `gpu`, this process's device `device`, outlives it.
  EngineMemory(GpuDevice& gpu, c10::DeviceIndex device);
  ~EngineMemory();
  EngineMemory(const EngineMemory&) = delete;
  EngineMemory& operator=(const EngineMemory&) = delete;
  EngineMemory(EngineMemory&&) = delete;
  EngineMemory& operator=(EngineMemory&&) = delete;

  /// The streams whose workspaces are the engine's; not those of partitions, which engines share.
  void own_workspaces(const std::vector<cudaStream_t>& streams);

  /// Gives back what others have left in the allocator's cache; peaks are of the turn from here on.
  void begin_turn();

  /// Behind a pass that has filled a context: gives back what it took, whose peak is no peak of
  /// steps. `exchange_bytes`: of its exchange, which is gone.
  void end_filling(std::int64_t exchange_bytes);

  /// Gives back what the turn has left in the allocator's cache.
  TurnMemory end_turn();

  /// The most of all turns so far, without what other engines held in them.
  AllocatorBytes peaks() const;

 private:
  void give_back() const;

  GpuDevice& gpu_;
  EngineLedger& ledger_;
  c10::DeviceIndex device_;
  std::vector<cudaStream_t> streams_;
  AllocatorBytes held_;    ///< its part of the ledger's
  AllocatorBytes others_;  ///< the others' part, in this turn
  AllocatorBytes peaks_;   ///< of the turns before
  std::int64_t held_bytes_ = 0;
  std::int64_t filling_bytes_ = 0;
  // At the begin of the turn.
  AllocatorBytes began_;
  std::int64_t began_free_ = 0;
};

}  // namespace dovetail
