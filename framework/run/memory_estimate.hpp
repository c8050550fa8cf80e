// What `dovetail check` knows of a run, and the memory that it will take.
#pragma once

#include <memory>
#include <vector>

#include "framework/config/experiment.hpp"
#include "framework/plan/grid.hpp"
#include "framework/plan/policy_schedules.hpp"
#include "framework/plan/workload.hpp"
#include "framework/step/architecture.hpp"

namespace dovetail {

struct CheckedRun {
  Experiment experiment;
  RankGrid grid;
  std::unique_ptr<Architecture> architecture;
  std::vector<RankWorkload> workloads;     ///< of each rank
  std::vector<PolicySchedules> schedules;  ///< of each policy
};

/// Parts of one rank's memory, bytes, in the policy that needs most. Throws InputError where the
/// requests do not fit into the KV cache.
std::vector<MemoryPart> rank_memory(const CheckedRun& run, int rank);

}  // namespace dovetail
