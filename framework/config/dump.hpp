// An Experiment as YAML text that states every key: what a result file keeps as /config.
#pragma once

#include <optional>
#include <string>

#include "framework/config/experiment.hpp"

namespace dovetail {

/// Reads back as an equal experiment (its sweep is there only where it has one), whose dump is
/// equal to the byte.
std::string dump(const Experiment& experiment);

/// "none", or "emulated: 20 us, 1 GB/s": how results name the link that a policy ran over. An ep
/// group of one rank has no link, so nothing is emulated.
std::string describe_link(const std::optional<LinkConfig>& link, int expert_parallel);

}  // namespace dovetail
