// An experiment file as the runs that it stands for, each as it is run: validated, with the
// policies that were chosen.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "framework/config/sweep.hpp"
#include "framework/config/validate.hpp"
#include "framework/mpi/session.hpp"
#include "framework/run/run_options.hpp"

namespace dovetail {

/// A file that sweeps nothing has one point.
struct ExperimentPoints {
  Sweep sweep;
  std::vector<Experiment> points;

  bool is_sweep() const { return sweep.is_sweep(); }
};

/// Every point of an experiment's text, validated for this number of ranks. Throws InputError.
ExperimentPoints read_points(const std::string& text,
                             const RunOptions& options,
                             int num_ranks,
                             const Capabilities& capabilities);

/// What a run would refuse in its experiment file, found by one process alone. Where a launcher
/// starts many ranks, MPI needs seconds until they know each other, and a message that needs no
/// other rank need not wait for that. Throws InputError.
void refuse_early(const RunOptions& options, int num_ranks, const Capabilities& capabilities);

/// Rank 0 reads the file and broadcasts it; every rank parses and validates the same text, in a
/// sweep every point. Collective over the world. Throws AgreedError.
ExperimentPoints agree_on_points(const MpiSession& session,
                                 const RunOptions& options,
                                 const Capabilities& capabilities);

/// Throws InputError where options.point cannot be run alone. Pure.
void require_point(const Sweep& sweep, const RunOptions& options);

/// Throws InputError that says how to start ranks where one was started, as without mpirun, and a
/// point needs more. Pure.
void require_started_ranks(const Sweep& sweep, int num_ranks, const RunOptions& options);

/// The experiment of a point: validated, with the policies that the point has chosen and the
/// baseline; the baseline first where others take its routing; with `execution.control` a second
/// copy of it last. `allowed_faults`: the silent
/// faults that it may have; nothing = any, where nothing is run. Pure. Throws InputError.
Experiment point_experiment(const Sweep& sweep,
                            std::size_t point,
                            int num_ranks,
                            const Capabilities& capabilities,
                            const std::optional<std::vector<FaultKind>>& allowed_faults = {});

/// Reads and validates an experiment file. Throws InputError.
Experiment load_valid_experiment(const std::string& file,
                                 const std::vector<std::string>& overrides,
                                 const Capabilities& capabilities);

/// The policy of that name. Throws InputError that lists the experiment's policies.
const PolicyConfig& find_policy(const Experiment& experiment, const std::string& name);

/// The fault that happens in the policy of that name; null = none.
const FaultConfig* fault_of(const Experiment& experiment, const std::string& policy);

/// Whether the other policies take the baseline's experts.
bool replays_baseline(const Experiment& experiment);

/// Whether a policy that chooses other experts than the baseline is compared with a run of the
/// baseline that has them (reference_run.hpp).
bool is_judged_naturally(const Experiment& experiment);

}  // namespace dovetail
