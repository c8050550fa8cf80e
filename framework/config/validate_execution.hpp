// What a device can run of `execution`: the rules that tie device, dtype, graph, exchange and link
// to each other. A part of validate.cpp, and of a run once its device is known.
#pragma once

#include <optional>
#include <string>

#include "framework/config/validate.hpp"

namespace dovetail {

/// The first rule that `execution` breaks on `device`; its place is the key ("graph"). cpu or cuda:
/// on that device; automatic: what neither device of this build can run. Names of exchanges that
/// are unknown are not looked at, nor is `auto` against the graph mode.
std::optional<ConfigProblem> find_execution_problem(DeviceKind device,
                                                    const ExecutionConfig& execution,
                                                    const Capabilities& capabilities);

/// For a run that has resolved `device: auto` to `resolved` (cpu or cuda), and `exchange: auto` to
/// a name where that is known: the rules of that device, strictly. `place` is that of the map
/// ("execution", "policies[1]"). Throws InputError "place.key: message".
void check_execution_on(DeviceKind resolved,
                        const ExecutionConfig& execution,
                        const Capabilities& capabilities,
                        const std::string& place);

}  // namespace dovetail
