#include "framework/cuda/time_stamp.hpp"

#include "framework/base/check.hpp"
#include "framework/cuda/stream_capture.hpp"

namespace dovetail {
namespace {

thread_local TimeStampOffer* offer_of_thread = nullptr;

}  // namespace

TimeStampOffer::TimeStampOffer(std::uint64_t* start,
                               std::uint64_t* end,
                               cudaStream_t stream,
                               StampOrder order)
    : start_(start), end_(end), stream_(stream), order_(order) {
  DOVETAIL_CHECK(offer_of_thread == nullptr, "a time stamp within another");
  is_captured_ = order == StampOrder::captured && find_last_nodes(stream, behind_);
  offer_of_thread = this;
}

TimeStampOffer::~TimeStampOffer() {
  offer_of_thread = nullptr;
}

bool TimeStampOffer::is_for(cudaStream_t stream) const {
  return stream == stream_ && (is_captured_ || order_ == StampOrder::unknown);
}

bool TimeStampOffer::is_where_it_was_made() const {
  std::vector<cudaGraphNode_t> now;
  return order_ == StampOrder::unknown || (find_last_nodes(stream_, now) && now == behind_);
}

bool TimeStampOffer::tells_end() const {
  if (order_ == StampOrder::unknown) {
    return end_is_taken_;
  }
  std::vector<cudaGraphNode_t> last;
  return end_is_taken_ && find_last_nodes(stream_, last) && last.size() == 1 &&
         last != end_behind_ && waits_for(last.front(), end_behind_);
}

std::uint64_t* take_time_stamp(cudaStream_t stream) {
  TimeStampOffer* offer = offer_of_thread;
  if (offer == nullptr || !offer->is_for(stream)) {
    return nullptr;
  }
  offer->was_asked_ = true;
  if (offer->order_ == StampOrder::unknown) {
    offer->end_is_taken_ = false;
  }
  if (offer->is_taken_ || !offer->is_where_it_was_made()) {
    return nullptr;
  }
  if (offer->start_ != nullptr) {
    offer->is_taken_ = true;
  }
  return offer->start_;
}

std::uint64_t* take_end_stamp(cudaStream_t stream) {
  TimeStampOffer* offer = offer_of_thread;
  if (offer == nullptr || !offer->is_for(stream)) {
    return nullptr;
  }
  offer->was_asked_ = true;
  if (offer->order_ == StampOrder::captured && !find_last_nodes(stream, offer->end_behind_)) {
    return nullptr;
  }
  offer->end_is_taken_ = offer->end_ != nullptr;
  return offer->end_;
}

void tell_no_work(cudaStream_t stream) {
  TimeStampOffer* offer = offer_of_thread;
  if (offer != nullptr && offer->is_for(stream)) {
    offer->is_told_empty_ = true;
  }
}

}  // namespace dovetail
