// Time stamps that a captured graph writes itself, at the beginning of kernels that are there
// anyway. An event would be a node of its own, and the fork to it costs the kernels about 1 us.
#pragma once

#include <cstdint>
#include <vector>

#include <cuda_runtime_api.h>

namespace dovetail {

/// While it lives, the first kernel that this thread launches on `stream` may write its time to
/// `word`: its launcher calls take_time_stamp(). The first one is the one that finds the capture of
/// `stream` where it was when the offer was made: behind any other work, of a library too, nobody
/// gets the word. So a launcher need not know what comes before it. One offer a thread at a time.
/// Immovable.
class TimeStampOffer {
 public:
  /// `word`: on the device, outlives the graph. `stream` is being captured, else nobody gets it.
  TimeStampOffer(std::uint64_t* word, cudaStream_t stream);
  ~TimeStampOffer();
  TimeStampOffer(const TimeStampOffer&) = delete;
  TimeStampOffer& operator=(const TimeStampOffer&) = delete;
  TimeStampOffer(TimeStampOffer&&) = delete;
  TimeStampOffer& operator=(TimeStampOffer&&) = delete;

  bool is_taken() const { return is_taken_; }

 private:
  friend std::uint64_t* take_time_stamp(cudaStream_t stream);

  std::uint64_t* word_;
  cudaStream_t stream_;
  bool is_captured_ = false;
  bool is_taken_ = false;
  std::vector<cudaGraphNode_t> behind_;  ///< what work on the stream was to wait for
};

/// For a launcher, right before it launches a kernel on `stream`, for its write_time_stamp():
/// the word that is offered to this thread, once; null = there is none. It must be written then.
/// Costs next to nothing where there is no offer.
std::uint64_t* take_time_stamp(cudaStream_t stream);

}  // namespace dovetail
