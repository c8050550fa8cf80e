#include "framework/cuda/time_stamp.hpp"

#include "framework/base/check.hpp"
#include "framework/cuda/stream_capture.hpp"

namespace dovetail {
namespace {

thread_local TimeStampOffer* offer_of_thread = nullptr;

}  // namespace

TimeStampOffer::TimeStampOffer(std::uint64_t* word, cudaStream_t stream)
    : word_(word), stream_(stream) {
  DOVETAIL_CHECK(offer_of_thread == nullptr, "a time stamp within another");
  is_captured_ = find_last_nodes(stream, behind_);
  offer_of_thread = this;
}

TimeStampOffer::~TimeStampOffer() {
  offer_of_thread = nullptr;
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
  offer->is_taken_ = true;
  return offer->word_;
}

}  // namespace dovetail
