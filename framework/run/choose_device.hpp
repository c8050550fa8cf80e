// Where the ranks of a run are placed: all on the CPU, or each on a GPU of its own.
#pragma once

#include <string>

#include "framework/config/experiment.hpp"
#include "framework/run/run_context.hpp"
#include "framework/step/rank_device.hpp"

namespace dovetail {

/// What a policy asks for that only CPU ranks can do (emulate a link, compute in float16), for
/// people; empty = nothing. Pure.
std::string what_needs_cpu(const Experiment& experiment);

/// Resolves `execution.device`: auto is GPUs where every rank can have one of its own and no policy
/// needs the CPU. Collective over the world. Throws AgreedError where GPUs are asked for and
/// assign_gpus has a problem, or `parallel.fabric: nvlink` where a way is missing. Where auto takes
/// the CPU and GPUs stay idle, rank 0 says why.
DevicePlacement choose_device(const RunContext& context);

}  // namespace dovetail
