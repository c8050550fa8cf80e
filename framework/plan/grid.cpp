#include "framework/plan/grid.hpp"

#include <string>

#include "framework/base/check.hpp"
#include "framework/base/error.hpp"
#include "framework/base/text.hpp"

namespace dovetail {

RankGrid make_grid(int world_size, int expert_parallel) {
  if (expert_parallel < 1) {
    throw InputError("parallel.expert_parallel is " + std::to_string(expert_parallel) +
                     "; it must be at least 1");
  }
  if (world_size < 1 || world_size % expert_parallel != 0) {
    throw InputError("the world has " + counted(world_size, "rank") +
                     "; it must be a positive multiple of parallel.expert_parallel = " +
                     std::to_string(expert_parallel));
  }
  return {world_size, expert_parallel};
}

std::pair<int, int> owned_experts(int num_experts, int expert_parallel, EpRank ep_rank) {
  if (expert_parallel < 1 || num_experts < 1 || num_experts % expert_parallel != 0) {
    throw InputError("the model has " + counted(num_experts, "expert") +
                     "; their number must be a positive multiple of parallel.expert_parallel = " +
                     std::to_string(expert_parallel));
  }
  DOVETAIL_CHECK(ep_rank.value >= 0 && ep_rank.value < expert_parallel,
                 "ep_rank " + std::to_string(ep_rank.value));
  const int per_rank = num_experts / expert_parallel;
  return {ep_rank.value * per_rank, (ep_rank.value + 1) * per_rank};
}

}  // namespace dovetail
