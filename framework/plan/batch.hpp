// A rank's batch of one step and its cut into ubatches. Pure arithmetic on counts.
#pragma once

#include <cstdint>
#include <vector>

namespace dovetail {

/// One request of this rank's batch.
struct Request {
  std::int64_t id = 0;              ///< unique over all ranks
  std::int64_t query_length = 0;    ///< tokens computed in this step
  std::int64_t context_length = 0;  ///< tokens already in the KV cache before this step
};

/// A rank's batch: requests in order, flattened to tokens in that order.
struct Batch {
  std::vector<Request> requests;

  std::int64_t num_tokens() const {
    std::int64_t tokens = 0;
    for (const auto& request : requests) {
      tokens += request.query_length;
    }
    return tokens;
  }
};

/// The part of one request that lies in one ubatch.
struct RequestSegment {
  int request = 0;               ///< index into Batch::requests
  std::int64_t query_start = 0;  ///< first token of the segment, counted within the request's query
  std::int64_t query_length = 0;  ///< tokens of the segment, >= 1
  std::int64_t token_start = 0;   ///< first token of the segment, counted within the rank's batch
};

/// One ubatch: a contiguous range of the batch's tokens; empty is legal.
struct UbatchSlice {
  std::int64_t token_start = 0;
  std::int64_t num_tokens = 0;
  std::vector<RequestSegment>
      segments;  ///< in order; they cover the range exactly; zero-token requests appear in none
};

}  // namespace dovetail
