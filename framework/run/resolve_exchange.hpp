// Which exchange a policy takes: by name, by a table of times, or by topology.
#pragma once

#include <string>

#include "framework/comm/exchange/exchanges.hpp"
#include "framework/config/experiment.hpp"
#include "framework/run/resolve.hpp"
#include "framework/step/architecture.hpp"

namespace dovetail {

/// The table of times that a policy's exchange is chosen by; "" = none.
std::string exchange_table_of(const ExecutionConfig& execution);

/// `exchange: FILE.json`: the fastest by that table, which must be of this run. `auto` with an
/// `exchange_table`: the fastest by that one; where it is of another run or has no row for this
/// policy, by topology, and the reason says why. `auto` alone: by topology. Else as named. Local.
/// Throws InputError, also for a table that cannot be read.
ExchangeChoice resolve_exchange(const Experiment& experiment,
                                const PolicyConfig& policy,
                                const Architecture& architecture,
                                const ResolvedPlace& place);

}  // namespace dovetail
