// The loop over the points of an experiment file, on all ranks of one job.
#pragma once

#include <functional>

#include "framework/run/experiment_points.hpp"
#include "framework/run/run_context.hpp"
#include "framework/run/run_options.hpp"

namespace dovetail {

/// Runs one experiment with everything that the context says into options.out; the exit code, equal
/// on all ranks.
using RunPoint = std::function<int(const RunContext&, const RunOptions&)>;

/// Runs the one experiment of a file that sweeps nothing; or every point of a sweep that is not
/// done yet, each as a run of its own into a folder of its own. A point whose outputs mismatch does
/// not end the sweep (with options.point: only that one, beside other processes); any other
/// failure, and a graceful stop, does. Rank 0 keeps the tables and prints them at the end.
/// Collective over the world; the exit code, equal on all ranks: that of the failure, kExitStopped
/// where a stop has left points undone, else kExitMismatch where a point mismatches. Throws
/// AgreedError.
int run_points(const MpiSession& session,
               const SignalWatch& signals,
               const ExperimentPoints& points,
               const RunOptions& options,
               const RunPoint& run_point);

}  // namespace dovetail
