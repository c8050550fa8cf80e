// The loop over the points of a sweep, on all ranks of one job.
#pragma once

#include <functional>

#include "framework/config/sweep.hpp"
#include "framework/config/validate.hpp"
#include "framework/run/run_options.hpp"
#include "framework/step/rank_context.hpp"

namespace dovetail {

/// What all points of one expert_parallel share; made once. Immovable.
struct SharedGroups {
  /// Collective over the world. Blocks inside MPI: start-up only.
  SharedGroups(const MpiSession& session, int expert_parallel);

  RankGrid grid;
  RankGroups groups;
  FailureChannel failures;
};

/// Runs one experiment with everything that the context says into options.out; the exit code, equal
/// on all ranks.
using RunPoint = std::function<int(const RankContext&, const RunOptions&)>;

/// Runs every point of a sweep that is not done yet, each as a run of its own into a folder of its
/// own. A point whose outputs mismatch does not end the sweep; any other failure, and a graceful
/// stop, does. Rank 0 keeps the tables and prints them at the end. Collective over the world; the
/// exit code, equal on all ranks: that of the failure, else kExitMismatch where a point mismatches.
/// Throws AgreedError.
int run_sweep(const MpiSession& session,
              const SignalWatch& signals,
              const Sweep& sweep,
              const RunOptions& options,
              const Capabilities& capabilities,
              const RunPoint& run_point);

/// Runs the one experiment of a file that sweeps nothing.
int run_single(const MpiSession& session,
               const SignalWatch& signals,
               const Sweep& sweep,
               const RunOptions& options,
               const Capabilities& capabilities,
               const RunPoint& run_point);

}  // namespace dovetail
