// A rank's share of the experiment's workload: its requests and their tokens, from the
// configuration and seeds alone. A request has the same id, length and tokens on every grid, as
// long as the requests of all ranks together are the same.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/base/ids.hpp"
#include "framework/config/experiment.hpp"
#include "framework/plan/batch.hpp"

namespace dovetail {

/// Host-side inputs of one rank; one entry a token, in batch order.
struct RankWorkload {
  Batch batch;
  std::vector<std::int64_t> input_ids;    ///< in [0, vocabulary)
  std::vector<std::int64_t> positions;    ///< within the request
  std::vector<std::int64_t> request_ids;  ///< global request id of each token
  std::uint64_t digest = 0;  ///< sum (mod 2^64) over tokens of hash(request, position, id): add up
                             ///< over ranks to compare runs
};

/// Number of requests of each rank: the configured count times its scale, rounded to the nearest; 0
/// is an idle rank.
std::vector<std::int64_t> requests_per_rank(const WorkloadConfig& config, int world_size);

/// Request ids count up over ranks: rank 0 holds the first. Lengths come from the list, repeated as
/// needed, by global id.
RankWorkload make_workload(const WorkloadConfig& config,
                           std::int64_t vocabulary,
                           int world_size,
                           Rank rank);

}  // namespace dovetail
