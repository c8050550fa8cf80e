// Which ops of compute an exchange of their rank may have slowed down.
#pragma once

#include <vector>

#include "framework/compare/intervals.hpp"

namespace dovetail {

/// Where the exchange of its own rank is, as an op of compute runs.
enum class NearExchange {
  no,
  beside,  ///< some exchange runs at the same time
  after,   ///< none does, but one has ended since the compute op before this one began
};

/// Of each op; no for exchanges and for ops that did not run. An interval with a negative start or
/// end did not run. Sizes are equal. Pure.
std::vector<NearExchange> near_exchange(const std::vector<bool>& is_exchange,
                                        const std::vector<Interval>& ops);

}  // namespace dovetail
