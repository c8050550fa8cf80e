#include "framework/cuda/time_stamp.hpp"

#include <cstddef>

#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"

namespace dovetail {
namespace {

thread_local TimeStampOffer* offer_of_thread = nullptr;

/// Whether the stream is being captured; then `nodes` are those that the next one will wait for.
bool find_last_nodes(cudaStream_t stream, std::vector<cudaGraphNode_t>& nodes) {
  auto status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
  cudaGraph_t graph = nullptr;
  const cudaGraphNode_t* last = nullptr;
  const cudaGraphEdgeData* edges = nullptr;
  std::size_t count = 0;
  check_cuda(cudaStreamGetCaptureInfo(stream, &status, &id, &graph, &last, &edges, &count),
             "look at a capture");
  if (status != cudaStreamCaptureStatusActive) {
    return false;
  }
  nodes.assign(last, last + count);
  return true;
}

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

bool TimeStampOffer::is_untouched() const {
  std::vector<cudaGraphNode_t> now;
  return is_captured_ && find_last_nodes(stream_, now) && now == behind_;
}

std::uint64_t* take_time_stamp(cudaStream_t stream) {
  TimeStampOffer* offer = offer_of_thread;
  if (offer == nullptr || offer->is_taken_ || stream != offer->stream_ || !offer->is_untouched()) {
    return nullptr;
  }
  offer->is_taken_ = true;
  return offer->word_;
}

}  // namespace dovetail
