// Holds a stream back until the host has enqueued a whole op, so that the op's kernels run without
// gaps in which the GPU would wait for the host.
#pragma once

#include <chrono>
#include <cstdint>

#include <cuda_runtime_api.h>

namespace dovetail {

/// Owns words that the host and the device it was made on both see. For each op, in the order in
/// which they are enqueued: hold, the op, release. A kernel of one thread waits on the device, at
/// most for the bound: an op whose enqueueing waits for the stream itself would hang otherwise.
/// Movable while no stream is held back. Calls from one thread at a time.
class OpGate {
 public:
  explicit OpGate(std::chrono::microseconds bound = std::chrono::milliseconds(2));
  ~OpGate();
  OpGate(OpGate&& other) noexcept;
  OpGate& operator=(OpGate&& other) noexcept;
  OpGate(const OpGate&) = delete;
  OpGate& operator=(const OpGate&) = delete;

  /// Of a step of so many ops. No stream is held back.
  void begin_step(int num_ops);

  /// What `stream` is given from now on waits for release(index).
  void hold(int index, cudaStream_t stream);

  /// The op is enqueued.
  void release(int index);

  /// Whether the device waited for the release of that op, and not for the bound only. Once the
  /// stream is idle.
  bool has_held(int index) const;

 private:
  struct Words;

  void free_words() noexcept;

  std::chrono::nanoseconds bound_;
  Words* words_ = nullptr;  ///< pinned, mapped
  int num_ops_ = 0;
  int capacity_ = 0;
};

}  // namespace dovetail
