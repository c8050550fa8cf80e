// `dovetail check` of a sweep: every point checked as a run of its own.
#pragma once

#include <nlohmann/json.hpp>

#include "framework/config/sweep.hpp"
#include "launch/commands.hpp"

namespace dovetail {

/// What `check` says of one experiment: grid, policies, memory. Throws InputError.
nlohmann::ordered_json check_experiment(const Experiment& experiment, int num_ranks);

/// Checks all points and prints a line each. Throws InputError that names the point.
int check_sweep(const Sweep& sweep, const CheckOptions& options);

}  // namespace dovetail
