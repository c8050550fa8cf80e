// Where the ranks of a run are placed: all on the CPU, or each on a GPU of its own.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "framework/config/experiment.hpp"
#include "framework/cuda/devices.hpp"
#include "framework/run/run_context.hpp"
#include "framework/step/rank_device.hpp"

namespace dovetail {

/// What a rank says of itself.
struct RankGpus {
  std::string host;
  std::vector<std::string> uuids;  ///< of the GPUs that it sees, in its order
};

/// The GPU of each rank, by rank, as a number in the rank's own order.
struct GpuAssignment {
  std::vector<int> ordinals;
  std::string problem;  ///< empty = every rank has one
};

/// Pure. Ranks of a host that all see the same GPUs take them one by one in the order of the ranks;
/// ranks that see different ones (a launcher gives each its own) take the first that no earlier
/// rank of the host has. Where a rank finds none left the problem names it, and the ranks that hold
/// what it sees.
GpuAssignment assign_gpus(const std::vector<RankGpus>& ranks);

/// True where a policy asks for what only CPU ranks can do: emulate a link, compute in float16.
bool needs_cpu(const Experiment& experiment);

/// Resolves `execution.device`: auto is GPUs where every rank can have one of its own and no policy
/// needs the CPU. Collective over the world. Throws AgreedError where GPUs are asked for and
/// assign_gpus has a problem. Where auto falls to the CPU although a rank sees a GPU, rank 0 says
/// why.
DevicePlacement choose_device(const RunContext& context);

}  // namespace dovetail
