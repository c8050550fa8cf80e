// What this build can run, and an experiment loaded against it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "framework/config/load.hpp"
#include "framework/config/validate.hpp"

namespace dovetail {

/// Names of everything that is registered, for the configuration's validation; the architectures
/// are those that launch has handed in.
Capabilities build_capabilities(std::vector<std::string> architectures = {});

/// Whether ranks will be on GPUs, as far as that is known before they start: `auto` means GPUs
/// where this host has some, or where what is asked for needs them.
bool plans_for_gpu(const ExecutionConfig& execution);

/// Reads and validates an experiment file. Throws InputError.
Experiment load_valid_experiment(const Capabilities& capabilities,
                                 const std::string& file,
                                 const std::vector<std::string>& overrides,
                                 std::optional<int> num_ranks);

/// The policy of that name. Throws InputError that lists the experiment's policies.
const PolicyConfig& find_policy(const Experiment& experiment, const std::string& name);

}  // namespace dovetail
