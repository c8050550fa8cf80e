#include "framework/comm/exchange/nccl/copy_streams.hpp"

namespace dovetail {

CopyStreams::CopyStreams(int num_peers) : forked_(Event::Kind::order) {
  for (int peer = 1; peer < num_peers; ++peer) {
    streams_.push_back(c10::cuda::getStreamFromPool(/*isHighPriority=*/true));
    joined_.emplace_back(Event::Kind::order);
  }
}

void CopyStreams::enqueue(cudaStream_t stream,
                          const std::function<void(int, cudaStream_t)>& copy) const {
  if (!streams_.empty()) {
    forked_.record(stream);
  }
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    const auto own = streams_[i].stream();
    forked_.hold(own);
    copy(static_cast<int>(i) + 1, own);
    joined_[i].record(own);
  }
  copy(0, stream);
  for (const auto& joined : joined_) {
    joined.hold(stream);
  }
}

}  // namespace dovetail
