// Owner of a CUDA event.
#pragma once

#include <utility>

#include <cuda_runtime_api.h>

namespace dovetail {

/// Move-only. Empty until made; made on the current device. An event that has not been recorded
/// counts as done, as for CUDA.
class Event {
 public:
  enum class Kind { order, timing };

  Event() = default;
  explicit Event(Kind kind);
  ~Event();

  Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}

  Event& operator=(Event&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }

  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  explicit operator bool() const { return event_ != nullptr; }

  cudaEvent_t raw() const { return event_; }

  /// Marks what `stream` has been given so far. In a capture it becomes an edge, no node.
  void record(cudaStream_t stream) const;

  /// In a capture: adds a node that records the event in each replay, so that the host can query
  /// it; needs an event that is used in this graph only.
  void record_external(cudaStream_t stream) const;

  /// Makes later work on `stream` wait for the last record.
  void hold(cudaStream_t stream) const;

  /// True once the last record is done; never blocks. Throws RunError with the error of a failed
  /// device. Not for events recorded in a capture.
  bool is_done() const;

  /// Nanoseconds on the device from `start` to `end`, both timing events and done; to
  /// event_error_ns (event_resolution.hpp).
  static double elapsed_ns(const Event& start, const Event& end);

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace dovetail
