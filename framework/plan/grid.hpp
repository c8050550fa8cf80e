// The rank grid: world = replicas (data parallel) x expert_parallel. Pure arithmetic.
#pragma once

#include <cstdint>
#include <utility>

#include "framework/base/ids.hpp"

namespace dovetail {

/// rank = dp_rank * expert_parallel + ep_rank. The ep group (equal dp_rank) exchanges tokens; the
/// dp group (equal ep_rank) holds replicas.
struct RankGrid {
  int world_size = 1;
  int expert_parallel = 1;

  int num_replicas() const { return world_size / expert_parallel; }

  DpRank dp_rank(Rank rank) const { return DpRank(rank.value / expert_parallel); }

  EpRank ep_rank(Rank rank) const { return EpRank(rank.value % expert_parallel); }

  Rank rank(DpRank dp, EpRank ep) const { return Rank(dp.value * expert_parallel + ep.value); }
};

/// Throws InputError unless expert_parallel >= 1 and world_size is a positive multiple of it.
RankGrid make_grid(int world_size, int expert_parallel);

/// Experts [first, second) that ep_rank owns: equal contiguous blocks. Throws InputError unless
/// num_experts is divisible by expert_parallel.
std::pair<int, int> owned_experts(int num_experts, int expert_parallel, EpRank ep_rank);

}  // namespace dovetail
