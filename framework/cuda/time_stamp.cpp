#include "framework/cuda/time_stamp.hpp"

#include "framework/base/check.hpp"
#include "framework/cuda/stream_capture.hpp"

namespace dovetail {
namespace {

thread_local TimeStampOffer* offer_of_thread = nullptr;

}  // namespace

TimeStampOffer::TimeStampOffer(std::uint64_t* start, std::uint64_t* end, cudaStream_t stream)
    : start_(start), end_(end), stream_(stream) {
  DOVETAIL_CHECK(offer_of_thread == nullptr, "a time stamp within another");
  is_captured_ = find_last_nodes(stream, behind_);
  offer_of_thread = this;
}

TimeStampOffer::~TimeStampOffer() {
  offer_of_thread = nullptr;
}

bool TimeStampOffer::tells_end() const {
  std::vector<cudaGraphNode_t> last;
  return end_is_taken_ && find_last_nodes(stream_, last) && last.size() == 1 &&
         last != end_behind_ && waits_for(last.front(), end_behind_);
}

std::uint64_t* take_time_stamp(cudaStream_t stream) {
  TimeStampOffer* offer = offer_of_thread;
  if (offer == nullptr || offer->is_taken_ || !offer->is_captured_ || stream != offer->stream_) {
    return nullptr;
  }
  std::vector<cudaGraphNode_t> now;
  if (!find_last_nodes(stream, now) || now != offer->behind_) {
    return nullptr;
  }
  offer->is_taken_ = offer->start_ != nullptr;
  return offer->start_;
}

std::uint64_t* take_end_stamp(cudaStream_t stream) {
  TimeStampOffer* offer = offer_of_thread;
  if (offer == nullptr || !offer->is_captured_ || stream != offer->stream_ ||
      !find_last_nodes(stream, offer->end_behind_)) {
    return nullptr;
  }
  offer->end_is_taken_ = offer->end_ != nullptr;
  return offer->end_;
}

}  // namespace dovetail
