// What `dovetail check` knows of a run: everything that can be known before it. The memory that it
// will take: rank_memory.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "framework/config/experiment.hpp"
#include "framework/config/validate.hpp"
#include "framework/plan/grid.hpp"
#include "framework/plan/workload.hpp"
#include "framework/run/planned_steps.hpp"
#include "framework/run/resolve.hpp"
#include "framework/step/architecture.hpp"
#include "framework/step/model_catalog.hpp"

namespace dovetail {

struct CheckedRun {
  Experiment experiment;
  RankGrid grid;
  ResolvedPlace place;
  std::unique_ptr<Architecture> architecture;
  std::vector<MemoryPart> untied_memory;  ///< of each rank; Architecture::untied_memory
  std::vector<RankWorkload> workloads;    ///< of each rank
  std::int64_t max_context_tokens = 0;    ///< of any rank's forward pass that fills a context
  std::vector<ResolvedPolicy> policies;   ///< in the experiment's order
  std::vector<std::vector<PlannedSteps>> planned_steps;  ///< of each policy
  std::vector<std::vector<StepSize>> step_sizes;         ///< of each policy
};

/// Where the ranks would be if all of them were started on this machine: `auto` is GPUs where it
/// has one for each rank, or where what is asked for needs them. GPUs that this machine does not
/// have are planned for as well: the device's name is kUnknownGpu then. Local.
ResolvedPlace planned_place(const Experiment& experiment,
                            int num_ranks,
                            const Capabilities& capabilities);

/// Does what a run does before its first step and what takes no work, for all of its ranks: also
/// looks whether a checkpoint has the model's weights, and folders of earlier runs what is taken
/// from them. Runs nothing. Local. Throws InputError.
CheckedRun check_run(const Experiment& experiment,
                     int num_ranks,
                     const ModelCatalog& models,
                     const Capabilities& capabilities);

}  // namespace dovetail
