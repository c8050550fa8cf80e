// What steps take before they begin: no part of the step time, but of the whole step.
#pragma once

#include <optional>

#include "framework/record/policy_folder.hpp"

namespace dovetail {

/// Nanoseconds, the median over the timed iterations of their mean step. A rank that comes late to
/// a collective makes the others wait, so collectives count as the last rank sees them, and what
/// ranks do by themselves as the slowest one does it:
///   agreement   = least of all ranks of the agreement + least of the wait until all are ready
///   preparation = most of all ranks
struct BeforeTimes {
  double agreement_ns = 0;
  double preparation_ns = 0;
};

/// Nothing where files do not hold it (before schema version 7), or no step did.
std::optional<BeforeTimes> read_before_times(const PolicyFolder& folder);

}  // namespace dovetail
