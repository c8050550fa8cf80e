// Time stamps that a captured graph writes itself, at the beginning or the end of kernels that are
// there anyway. An event would be a node of its own, and a graph with a fork to one is slower at
// each of its kernels, by 0.1 us.
#pragma once

#include <cstdint>
#include <vector>

#include <cuda_runtime_api.h>

namespace dovetail {

/// While it lives, the first kernel that this thread launches on `stream` may write the time to
/// `start`, and the last one to `end`: their launchers call take_time_stamp() and take_end_stamp().
/// The first one is the one that finds the capture of `stream` where it was when the offer was
/// made: behind any other work, of a library too, nobody gets `start`. `end` is given to all that
/// ask for it, and tells_end() says whether the last of them was the last work at all. So a
/// launcher need not know what comes before or behind it. One offer a thread at a time. Immovable.
class TimeStampOffer {
 public:
  /// The words: on the device, outlive the graph; null: is not offered. `stream` is being captured,
  /// else nobody gets them.
  TimeStampOffer(std::uint64_t* start, std::uint64_t* end, cudaStream_t stream);
  ~TimeStampOffer();
  TimeStampOffer(const TimeStampOffer&) = delete;
  TimeStampOffer& operator=(const TimeStampOffer&) = delete;
  TimeStampOffer(TimeStampOffer&&) = delete;
  TimeStampOffer& operator=(TimeStampOffer&&) = delete;

  /// Whether a kernel writes `start`.
  bool is_taken() const { return is_taken_; }

  /// Whether the last work that `stream` has been given is one kernel that writes `end`.
  bool tells_end() const;

 private:
  friend std::uint64_t* take_time_stamp(cudaStream_t stream);
  friend std::uint64_t* take_end_stamp(cudaStream_t stream);

  std::uint64_t* start_;
  std::uint64_t* end_;
  cudaStream_t stream_;
  bool is_captured_ = false;
  bool is_taken_ = false;
  bool end_is_taken_ = false;
  // What work on the stream was to wait for when the offer was made, and when `end` was last taken.
  std::vector<cudaGraphNode_t> behind_;
  std::vector<cudaGraphNode_t> end_behind_;
};

/// For a launcher, right before it launches a kernel on `stream`, for its write_time_stamp():
/// the word that is offered to this thread, once; null = there is none. It must be written then.
/// Costs next to nothing where there is no offer.
std::uint64_t* take_time_stamp(cudaStream_t stream);

/// Likewise for its write_end_stamp(): the word that the end is offered for, each time. It must
/// launch one kernel right behind the call.
std::uint64_t* take_end_stamp(cudaStream_t stream);

}  // namespace dovetail
