// The keys of an experiment file: from a tree to the structs. Between override.hpp and load.hpp.
#pragma once

#include "framework/config/experiment.hpp"
#include "framework/config/yaml_tree.hpp"

namespace dovetail {

/// Throws InputError at the first value that is unknown, missing, of a wrong type or out of range.
Experiment read_experiment(const YamlNode& root);

}  // namespace dovetail
