// The requests of all ranks, from the configuration and seeds alone: which there are, how long they
// are and which rank holds them. workload.hpp makes a rank's tokens of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/config/experiment.hpp"
#include "framework/plan/request_trace.hpp"

namespace dovetail {

/// Upper bound of the requests of all ranks together.
inline constexpr std::int64_t kMaxRequests = 10'000'000;

struct PlannedRequest {
  std::int64_t id = 0;                  ///< index in the list of all requests
  int rank = 0;                         ///< the rank that holds it
  std::int64_t length = 0;              ///< tokens computed in a step
  std::int64_t context_length = 0;      ///< tokens in the KV cache before the first step
  const TraceRequest* trace = nullptr;  ///< its line, where requests are a file
};

/// All requests in order of id. Ids are group-major: those of a group follow all of the group
/// before it, over all ranks; within a group the lowest rank holds the first. So a group has the
/// same requests on every grid where its total is the same.
///
/// A rank holds `count * rank_scale` requests of a group, rounded to the nearest. Lists are taken
/// by index within the group, over all ranks, and repeated as needed. A lognormal length is
/// round(median * exp(sigma * z)), z standard normal by (seed, id), at least 1 and at most
/// max_length; in the phase decode that is the context length and the length is 1.
///
/// A file's requests go to the rank that their line names, the others, in order, to the rank that
/// would have the fewest tokens in a step for its rank_scale, then the shortest contexts, then the
/// lowest number; never to one of scale 0. Takes n log n steps, as long as few scales differ.
///
/// `trace` is null unless requests are a file. Throws InputError where no rank has a request or
/// there are more than kMaxRequests, and for lines of a trace that the phase, the inputs or the
/// number of ranks forbid.
std::vector<PlannedRequest> plan_requests(const WorkloadConfig& config,
                                          const RequestTrace* trace,
                                          int world_size);

}  // namespace dovetail
