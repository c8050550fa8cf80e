// How many rows the exchange moved to which expert and rank, of one policy.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/record/policy_folder.hpp"

namespace dovetail {

/// Rows that the exchange moved, over all ranks; the bytes are among the scalars.
struct TrafficTotals {
  std::vector<std::vector<std::int64_t>>
      tokens_per_expert;  ///< [layers][experts], replicas added; a dense layer has zeros
  std::vector<std::vector<std::int64_t>>
      tokens_per_rank;  ///< [layers][ranks]: for the rank's own experts
};

/// Reads /traffic/tokens_per_expert of all ranks; every rank must have a file. InputError where the
/// ranks have different layers, or a rank's first expert is beyond the experts of all ranks.
TrafficTotals read_traffic(const PolicyFolder& folder);

}  // namespace dovetail
