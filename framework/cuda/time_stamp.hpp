// Time stamps that kernels which are there anyway write, at their beginning or their end. An event
// costs a stream 2 us, and in a graph it is a node of its own: a graph with a fork to one is slower
// at each of its kernels, by 0.1 us.
#pragma once

#include <cstdint>
#include <vector>

#include <cuda_runtime_api.h>

namespace dovetail {

/// What is known of the order of the work on a stream.
enum class StampOrder {
  /// The stream is being captured (else nobody gets a word), and the capture shows it.
  captured,
  /// Nothing: only launchers that ask for words are seen, and no work of a library.
  unknown
};

/// While it lives, the first kernel that this thread launches on `stream` may write the time to
/// `start`, and the last one to `end`: their launchers call take_time_stamp() and take_end_stamp().
/// In a capture the first one is the one that finds the capture of `stream` where it was when the
/// offer was made: behind any other work, of a library too, nobody gets `start`. `end` is given to
/// all that ask for it, and tells_end() says whether the last of them was the last work at all. So
/// a launcher need not know what comes before or behind it. Where the order is unknown, the first
/// one that asks gets `start`, and the last one that asks for anything tells the end: the same
/// launchers, of an op that has been captured. One offer a thread at a time. Immovable.
class TimeStampOffer {
 public:
  /// The words: on the device, outlive the graph; null: is not offered.
  TimeStampOffer(std::uint64_t* start,
                 std::uint64_t* end,
                 cudaStream_t stream,
                 StampOrder order = StampOrder::captured);
  ~TimeStampOffer();
  TimeStampOffer(const TimeStampOffer&) = delete;
  TimeStampOffer& operator=(const TimeStampOffer&) = delete;
  TimeStampOffer(TimeStampOffer&&) = delete;
  TimeStampOffer& operator=(TimeStampOffer&&) = delete;

  /// Whether a kernel writes `start`.
  bool is_taken() const { return is_taken_; }

  /// Whether the last work that `stream` has been given, as far as that is known, is one kernel
  /// that writes `end`.
  bool tells_end() const;

  /// Whether the work is empty, as far as that is known: tell_no_work() was called, and no launcher
  /// asked for a word.
  bool is_empty() const { return is_told_empty_ && !was_asked_; }

 private:
  friend std::uint64_t* take_time_stamp(cudaStream_t stream);
  friend std::uint64_t* take_end_stamp(cudaStream_t stream);
  friend void tell_no_work(cudaStream_t stream);

  /// Whether it is made for work on that stream.
  bool is_for(cudaStream_t stream) const;
  /// Whether nothing has been put on the stream since, as far as that is known.
  bool is_where_it_was_made() const;

  std::uint64_t* start_;
  std::uint64_t* end_;
  cudaStream_t stream_;
  StampOrder order_;
  bool is_captured_ = false;
  bool is_taken_ = false;
  bool end_is_taken_ = false;
  bool is_told_empty_ = false;
  bool was_asked_ = false;
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

/// For work on `stream` that turns out to be none, an exchange of one rank for instance: it then
/// needs no event to tell its end.
void tell_no_work(cudaStream_t stream);

}  // namespace dovetail
