// An Experiment as YAML text that states every key: what a result file keeps as /config.
#pragma once

#include <string>

#include "framework/config/experiment.hpp"

namespace dovetail {

/// Reads back as an equal experiment, whose dump is equal to the byte.
std::string dump(const Experiment& experiment);

}  // namespace dovetail
